// Package vagrant holds the lab's boxes. It has no code but the tests of what is
// run in them: the provisioning scripts, against stand-ins of the package servers
// and of the tools that only the distribution has. What such a stand-in cannot
// show is listed in README.md.
package vagrant

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
)

// target is a box's root as the scripts see it, with tools of our own.
type target struct {
	t       *testing.T
	root    string
	env     []string
	fetched atomic.Int32
	server  *httptest.Server
}

// newTarget serves files by path.
func newTarget(t *testing.T, files map[string]string) *target {
	for _, tool := range []string{"curl", "awk", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	target := &target{t: t, root: t.TempDir()}
	target.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target.fetched.Add(1)
		text, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(text)) // a client that goes is its own trouble
	}))
	t.Cleanup(target.server.Close)
	target.write("tools/.keep", "")
	return target
}

// write puts a file below the root; what begins with #! can be run.
func (g *target) write(name, text string) {
	path := filepath.Join(g.root, name)
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	NewWithT(g.t).Expect(os.MkdirAll(filepath.Dir(path), 0o755)).To(Succeed())
	NewWithT(g.t).Expect(os.WriteFile(path, []byte(text), mode)).To(Succeed())
}

// tool makes a stand-in that notes its calls and then runs a script.
func (g *target) tool(name, script string) {
	g.write("tools/"+name, "#!/bin/sh\necho \""+name+" $*\" >>\"$ROOT/calls\"\n"+script+"\n")
}

// calls are the stand-ins' calls so far.
func (g *target) calls() string {
	text, err := os.ReadFile(filepath.Join(g.root, "calls"))
	if err != nil {
		return ""
	}
	return string(text)
}

func (g *target) read(name string) string {
	text, err := os.ReadFile(filepath.Join(g.root, name))
	NewWithT(g.t).Expect(err).NotTo(HaveOccurred())
	return string(text)
}

// provision runs a script with the prelude before it, as the Vagrantfiles do.
func (g *target) provision(script string, env ...string) (output string, err error) {
	var text []byte
	for _, file := range []string{"lib/prelude.sh", "provision/" + script + ".sh"} {
		part, err := os.ReadFile(file)
		NewWithT(g.t).Expect(err).NotTo(HaveOccurred())
		text = append(append(text, part...), '\n')
	}
	g.write("script", string(text))
	cmd := exec.Command(filepath.Join(g.root, "script"))
	cmd.Env = append([]string{"PATH=" + filepath.Join(g.root, "tools") + ":" + os.Getenv("PATH"), "ROOT=" + g.root}, append(g.env, env...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

func TestCentOSVault(t *testing.T) {
	g, target := NewWithT(t), newTarget(t, nil)
	target.write("etc/yum.repos.d/CentOS-Base.repo", "[base]\nmirrorlist=…\n")
	target.tool("yum", "")
	out, err := target.provision("centos-vault", "CENTOS_RELEASE=7.5.1804")
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(out).To(And(ContainSubstring("set aside"), ContainSubstring("come from the vault of CentOS 7.5.1804")))
	g.Expect(filepath.Glob(filepath.Join(target.root, "etc/yum.repos.d/*.repo"))).To(HaveLen(1))
	repo := target.read("etc/yum.repos.d/leaklab-vault.repo")
	for _, part := range []string{"os", "updates", "extras"} {
		g.Expect(repo).To(ContainSubstring("baseurl=http://vault.centos.org/7.5.1804/" + part + "/x86_64/\ngpgcheck=1\n"))
	}
	g.Expect(target.calls()).To(Equal("yum clean all\n"))

	out, err = target.provision("centos-vault", "CENTOS_RELEASE=7.5.1804")
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(out).To(ContainSubstring("already"))
	g.Expect(target.calls()).To(Equal("yum clean all\n"), "nothing is done twice")
}

// The report's engine: installed from three packages, its unit as it came or
// with a drop-in.
func TestDocker113(t *testing.T) {
	for name, unit := range map[string]struct {
		text   string
		dropIn bool
	}{
		"unit with MountFlags=slave": {"[Service]\nMountFlags=slave\n", false},
		"unit without":               {"[Service]\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			target := newTarget(t, map[string]string{"/p/common.rpm": "1", "/p/client.rpm": "2", "/p/docker.rpm": "3"})
			url := target.server.URL + "/p/"
			downloads := "DOWNLOADS=docker-common " + url + "common.rpm -;docker-client " + url + "client.rpm " + sum("2") + ";docker " + url + "docker.rpm -"
			target.write("usr/lib/systemd/system/docker.service", unit.text)
			target.tool("rpm", `[ -f "$ROOT/installed" ] && echo docker-1.13.1-63.git94f4240.el7.centos.x86_64`)
			target.tool("yum", `touch "$ROOT/installed"`)
			target.tool("systemctl", `case $* in "show --property MountFlags docker") echo MountFlags=131072;; esac`)
			target.tool("docker", "echo 1.13.1")
			out, err := target.provision("docker-1.13", "DOCKER_VERSION=1.13.1", downloads)
			g.Expect(err).NotTo(HaveOccurred(), out)
			cache := filepath.Join(target.root, "var/cache/leaklab/downloads")
			g.Expect(target.calls()).To(And(
				ContainSubstring("yum --assumeyes --quiet install "+cache+"/common.rpm "+cache+"/client.rpm "+cache+"/docker.rpm\n"),
				ContainSubstring("systemctl restart docker\n")))
			g.Expect(target.read("etc/docker/daemon.json")).To(ContainSubstring(`"live-restore": true`))
			dropIn := filepath.Join(target.root, "etc/systemd/system/docker.service.d/leaklab-mounts.conf")
			if unit.dropIn {
				g.Expect(dropIn).To(BeARegularFile())
			} else {
				g.Expect(dropIn).NotTo(BeAnExistingFile())
			}
			g.Expect(target.read("var/lib/leaklab/sums")).To(ContainSubstring(sum("3") + " " + url + "docker.rpm\n"))
			g.Expect(out).To(ContainSubstring("docker 1.13.1 runs"))

			before := target.calls()
			out, err = target.provision("docker-1.13", "DOCKER_VERSION=1.13.1", downloads)
			g.Expect(err).NotTo(HaveOccurred(), out)
			g.Expect(out).To(ContainSubstring("docker 1.13.1 is installed already"))
			again := strings.TrimPrefix(target.calls(), before)
			g.Expect(again).NotTo(Or(ContainSubstring("yum"), ContainSubstring("restart")), "nothing is done twice")
			g.Expect(target.fetched.Load()).To(BeEquivalentTo(3))
		})
	}
}

func TestDocker1809(t *testing.T) {
	const fingerprint = "060A61C51B558A7F742B77AAC52FEB6B621E9F35"
	g := NewWithT(t)
	target := newTarget(t, map[string]string{"/key": "k", "/containerd.rpm": "1", "/cli.rpm": "2", "/ce.rpm": "3"})
	url := target.server.URL
	env := []string{"DOCKER_VERSION=18.09.2", "DOCKER_KEY_FINGERPRINT=" + fingerprint,
		"DOWNLOADS=docker-key " + url + "/key -;containerd.io " + url + "/containerd.rpm -;docker-ce-cli " + url + "/cli.rpm -;docker-ce " + url + "/ce.rpm -"}
	target.tool("rpm", `case $1 in -q) [ -f "$ROOT/installed" ] && echo docker-ce-18.09.2-3.el7.x86_64;; esac`)
	target.tool("yum", `touch "$ROOT/installed"`)
	target.tool("systemctl", "")
	target.tool("docker", "echo 18.09.2")

	target.tool("gpg", `echo "      Key fingerprint = 0000 1111"`)
	out, err := target.provision("docker-18.09", env...)
	g.Expect(err).To(HaveOccurred())
	g.Expect(out).To(ContainSubstring("has the fingerprint 00001111, want " + fingerprint))
	g.Expect(target.calls()).NotTo(ContainSubstring("yum"))

	target.tool("gpg", `echo "      Key fingerprint = 060A 61C5 1B55 8A7F 742B  77AA C52F EB6B 621E 9F35"`)
	out, err = target.provision("docker-18.09", append(env, "SLAVE_MOUNTS=1")...)
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(target.calls()).To(And(ContainSubstring("rpm --import "), ContainSubstring("ce.rpm"), ContainSubstring("systemctl restart docker")))
	g.Expect(target.read("etc/systemd/system/docker.service.d/leaklab-mounts.conf")).To(Equal("[Service]\nMountFlags=slave\n"))
}

func TestKernel(t *testing.T) {
	g, target := NewWithT(t), newTarget(t, map[string]string{"/kernel.rpm": "k"})
	env := []string{"KERNEL=3.10.0-862.9.1.el7", "DOWNLOADS=3.10.0-862.9.1.el7 " + target.server.URL + "/kernel.rpm -"}
	target.tool("uname", "echo 3.10.0-1160.el7.x86_64")
	target.tool("yum", "exit 1") // it refuses what is older than what is there
	target.tool("rpm", `case $1 in --install) mkdir -p "$ROOT/boot" && touch "$ROOT/boot/vmlinuz-3.10.0-862.9.1.el7.x86_64";; esac`)
	target.tool("grubby", "")
	out, err := target.provision("kernel", env...)
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(target.calls()).To(ContainSubstring("rpm --install --oldpackage "))
	g.Expect(target.calls()).To(HaveSuffix("grubby --set-default /boot/vmlinuz-3.10.0-862.9.1.el7.x86_64\nuname -r\n"))
	g.Expect(target.read("var/lib/leaklab/reboot-wanted")).To(ContainSubstring("instead of 3.10.0-1160"))

	target.tool("uname", "echo 3.10.0-862.9.1.el7.x86_64")
	out, err = target.provision("kernel", env...)
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(out).To(ContainSubstring("kernel 3.10.0-862.9.1.el7.x86_64 runs already"))
}

func TestContainerd(t *testing.T) {
	g, target := NewWithT(t), newTarget(t, map[string]string{"/c.tar.gz": archive(t, "bin/containerd",
		"#!/bin/sh\necho containerd github.com/containerd/containerd v1.5.1 12dca9790f4cb6b18a6a7a027ce420145cb98ee7\n")})
	env := []string{"CONTAINERD_VERSION=1.5.1", "DOWNLOADS=containerd " + target.server.URL + "/c.tar.gz -"}
	out, err := target.provision("containerd", env...)
	g.Expect(err).NotTo(HaveOccurred(), out)
	out, err = target.provision("containerd", env...)
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(out).To(Equal("leaklab: containerd 1.5.1 is installed already\n"))
	g.Expect(target.fetched.Load()).To(BeEquivalentTo(1))
}

func archive(t *testing.T, name, text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	g := NewWithT(t)
	g.Expect(w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))})).To(Succeed())
	_, err := w.Write([]byte(text))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(w.Close()).To(Succeed())
	g.Expect(z.Close()).To(Succeed())
	return b.String()
}

// The ends that downloads come to.
func TestFetch(t *testing.T) {
	good := archive(t, "bin/containerd", "#!/bin/sh\necho containerd x v1.5.1 y\n")
	for name, c := range map[string]struct {
		sum, path string
		fails     string
	}{
		"checksum known":    {sum: sum(good), path: "/c.tar.gz"},
		"checksum unknown":  {sum: "-", path: "/c.tar.gz"},
		"checksum mismatch": {sum: sum("other"), path: "/c.tar.gz", fails: "leaklab: checksum mismatch of "},
		"not there":         {sum: "-", path: "/gone.tar.gz", fails: "leaklab: cannot fetch "},
	} {
		t.Run(name, func(t *testing.T) {
			g, target := NewWithT(t), newTarget(t, map[string]string{"/c.tar.gz": good})
			out, err := target.provision("containerd", "CONTAINERD_VERSION=1.5.1", "DOWNLOADS=containerd "+target.server.URL+c.path+" "+c.sum)
			sums := filepath.Join(target.root, "var/lib/leaklab/sums")
			if c.fails == "" {
				g.Expect(err).NotTo(HaveOccurred(), out)
				g.Expect(sums).To(BeARegularFile())
				return
			}
			g.Expect(err).To(HaveOccurred())
			g.Expect(out).To(ContainSubstring(c.fails))
			g.Expect(sums).NotTo(BeAnExistingFile(), "what was refused is not recorded")
			g.Expect(filepath.Glob(filepath.Join(target.root, "var/cache/leaklab/downloads/*"))).To(BeEmpty(), "nor kept")
		})
	}
}

func TestSmallBuffers(t *testing.T) {
	g, target := NewWithT(t), newTarget(t, nil)
	target.tool("sysctl", "")
	for range 2 {
		out, err := target.provision("small-buffers", "TCP_WMEM=4096 16384 4194304")
		g.Expect(err).NotTo(HaveOccurred(), out)
	}
	g.Expect(target.calls()).To(Equal("sysctl --quiet net.ipv4.tcp_wmem=4096 16384 4194304\n"), "once")
	g.Expect(target.read("etc/sysctl.d/90-leaklab.conf")).To(Equal("net.ipv4.tcp_wmem = 4096 16384 4194304\n"))
}

func TestCgroup1(t *testing.T) {
	g, target := NewWithT(t), newTarget(t, nil)
	target.write("proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
	target.tool("update-grub", "")
	out, err := target.provision("cgroup1")
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(target.read("etc/default/grub.d/leaklab.cfg")).To(ContainSubstring("systemd.unified_cgroup_hierarchy=0"))
	g.Expect(filepath.Join(target.root, "var/lib/leaklab/reboot-wanted")).To(BeARegularFile())

	target.write("proc/mounts", "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n")
	out, err = target.provision("cgroup1")
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(out).To(ContainSubstring("already"))
}

func TestOwnDockerd(t *testing.T) {
	g, target := NewWithT(t), newTarget(t, nil)
	for _, name := range []string{"bin/dockerd-current", "libexec/docker/docker-containerd-current", "libexec/docker/docker-containerd-shim-current",
		"libexec/docker/docker-ctr-current", "libexec/docker/docker-runc-current"} {
		target.write("usr/"+name, "#!/bin/sh\n")
	}
	target.tool("rpm", "echo docker-1.13.1-63.git94f4240.el7.centos")
	out, err := target.provision("own-dockerd")
	g.Expect(err).NotTo(HaveOccurred(), out)
	for _, name := range []string{"dockerd", "docker-containerd", "docker-containerd-shim", "docker-containerd-ctr", "docker-runc"} {
		g.Expect(filepath.EvalSymlinks(filepath.Join(target.root, "var/lib/leaklab/own/dockerd", name))).To(HaveSuffix("-current"))
	}
	g.Expect(target.read("var/lib/leaklab/own/dockerd.version")).To(Equal("docker-1.13.1-63.git94f4240.el7.centos\n"))

	g.Expect(os.Remove(filepath.Join(target.root, "usr/libexec/docker/docker-runc-current"))).To(Succeed())
	out, err = target.provision("own-dockerd")
	g.Expect(err).To(HaveOccurred())
	g.Expect(out).To(ContainSubstring("the packages have brought no docker-runc"))
}

func TestLeaklabItself(t *testing.T) {
	g, target := NewWithT(t), newTarget(t, nil)
	out, err := target.provision("leaklab")
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(out).To(ContainSubstring("no binary came along"))

	target.write("tmp/leaklab-upload/leaklab", "#!/bin/sh\necho leaklab version test\n")
	target.write("tmp/leaklab-upload/runtimes/ttrpc-pair@v1.0.1-0123456789ab/bin/pair", "x")
	target.write("tmp/leaklab-upload/runtimes/ttrpc-pair@v1.0.1-0123456789ab/manifest.json", "{}")
	out, err = target.provision("leaklab")
	g.Expect(err).NotTo(HaveOccurred(), out)
	g.Expect(out).To(ContainSubstring("leaklab version test, runtimes: 1"))
	info, err := os.Stat(filepath.Join(target.root, "root/.cache/leaklab/runtimes/ttrpc-pair@v1.0.1-0123456789ab/bin/pair"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.Mode().Perm()).To(BeEquivalentTo(0o755), "vagrant's upload loses the mode")
}

func TestShellcheck(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("shellcheck is not installed")
	}
	g := NewWithT(t)
	prelude, err := os.ReadFile("lib/prelude.sh")
	g.Expect(err).NotTo(HaveOccurred())
	scripts, err := filepath.Glob("*/*.sh")
	g.Expect(err).NotTo(HaveOccurred())
	for _, file := range scripts {
		text, err := os.ReadFile(file)
		g.Expect(err).NotTo(HaveOccurred())
		if strings.HasPrefix(file, "provision/") {
			text = append(append(prelude[:len(prelude):len(prelude)], '\n'), text...)
		}
		cmd := exec.Command("shellcheck", "--shell=sh", "-")
		cmd.Stdin = bytes.NewReader(text)
		out, err := cmd.CombinedOutput()
		g.Expect(err).NotTo(HaveOccurred(), "%s:\n%s", file, out)
	}
}
