package machine

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/leaklab/leaklab/harness/arm"
)

func TestBoxesForArms(t *testing.T) {
	bs, err := readBoxes("../../vagrant/" + versionsFile)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for _, c := range []struct {
		a     arm.Arm
		asked string
		want  string
		fails string
	}{
		{a: arm.Arm{Runtimes: []string{"dockerd@1.13.1", "workload@1"}}, want: "docker-1.13"},
		{a: arm.Arm{Runtimes: []string{"dockerd@18.09"}}, want: "docker-18.09"},
		{a: arm.Arm{Runtimes: []string{"dockerd@18.09-kill-timeout"}}, want: "debian"},
		{a: arm.Arm{Runtimes: []string{"dockerd@20.10.24"}}, want: "debian"},
		{a: arm.Arm{Runtimes: []string{"ttrpc-pair@v1.0.1"}}, want: "ttrpc"},
		{a: arm.Arm{Runtimes: []string{"ttrpc-pair@v1.1.0"}}, want: "debian"},
		{a: arm.Arm{VM: arm.VM{Kernel: "3.10"}}, want: "kmem"},
		{a: arm.Arm{VM: arm.VM{Kernel: "3.10"}, Runtimes: []string{"runc@1.1.5"}}, want: "kmem"},
		{a: arm.Arm{VM: arm.VM{Kernel: "6.1"}}, want: "debian"},
		{a: arm.Arm{VM: arm.VM{Kernel: "5.10"}}, fails: "no box has a kernel 5.10: use --machine vm"},
		{a: arm.Arm{VM: arm.VM{CgroupV2: true}}, fails: "is about cgroup v2, and the boxes have v1: use --machine vm"},
		{a: arm.Arm{Runtimes: []string{"ttrpc-pair@v1.0.1"}}, asked: "debian", want: "debian"},
		{a: arm.Arm{VM: arm.VM{Kernel: "3.10"}}, asked: "debian", fails: "is about kernel 3.10, the box debian has 6.1"},
		{asked: "nothing", fails: `there is no box "nothing", there are docker-1.13, docker-18.09, kmem, ttrpc, debian`},
	} {
		g := NewWithT(t)
		b, err := bs.forArm(c.a, c.asked)
		if c.fails != "" {
			g.Expect(err).To(MatchError(c.fails))
			continue
		}
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(b.Name).To(Equal(c.want), "%v", c.a)
	}
}

func TestOwnRuntimes(t *testing.T) {
	g := NewWithT(t)
	b := box{Subjects: []string{"dockerd@18.09"}, Own: []string{"dockerd"}}
	g.Expect(b.hasOwn("dockerd", "/cache/runtimes/dockerd@18.09-04aecea89632")).To(BeTrue())
	g.Expect(b.hasOwn("dockerd", "/cache/runtimes/dockerd@18.09-kill-timeout-04aecea89632")).To(BeFalse(), "the box has no such edit")
	g.Expect(b.hasOwn("workload", "/cache/runtimes/workload@1-f5c09fe9bca4")).To(BeFalse())
}

// standIns puts a vagrant, an ssh and a sudo of our own on PATH: a "box" that is
// this machine, with its store in a folder of the test. up is what its vagrant up
// does, state what there is before.
type standIns struct{ dir string }

func newStandIns(t *testing.T, state, up string) standIns {
	g := NewWithT(t)
	s := standIns{dir: t.TempDir()}
	tool := func(name, script string) {
		script = strings.ReplaceAll("#!/bin/sh\n"+script, "@DIR@", s.dir)
		g.Expect(os.WriteFile(filepath.Join(s.dir, name), []byte(script), 0o755)).To(Succeed())
	}
	tool("vagrant", `echo "$1" >>@DIR@/calls
case $1 in
status) echo "1,default,state,$(cat @DIR@/state)" ;;
up)
`+up+`
echo running >@DIR@/state ;;
destroy) echo not_created >@DIR@/state ;;
ssh-config) echo "Host box" ;;
plugin) echo "vagrant-libvirt (0.11.2, system)" ;;
esac
`)
	// What is below absolute folders in a box is below the test's here.
	tool("ssh", `[ "$5" = -O ] && exit 0
for script; do :; done
script=$(echo "$script" | sed "s,`+boxStore+`,@DIR@/store,g; s,`+boxOwn+`,@DIR@/own,g")
TMPDIR=@DIR@ sh -c "$script"
`)
	tool("sudo", `exec "$@"`)
	g.Expect(os.WriteFile(filepath.Join(s.dir, "state"), []byte(state+"\n"), 0o644)).To(Succeed())
	t.Setenv("PATH", s.dir+":"+os.Getenv("PATH"))
	t.Setenv("VAGRANT_DOTFILE_PATH", filepath.Join(s.dir, "dotfiles"))
	return s
}

func (s standIns) calls(t *testing.T) []string {
	text, err := os.ReadFile(filepath.Join(s.dir, "calls"))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return strings.Fields(string(text))
}

// vagrant is a machine whose only box has its folder in the test's.
func (s standIns) vagrant(destroy bool) *Vagrant {
	b := box{Name: "only", Subjects: []string{"*"}}
	_ = os.Mkdir(filepath.Join(s.dir, "only"), 0o755) // of an earlier call
	return &Vagrant{Dir: s.dir, boxes: boxes{b}, Destroy: destroy, looked: true}
}

func (s standIns) run(t *testing.T, v *Vagrant, name string) (events []arm.Event, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := arm.Find([]arm.Scenario{fake}, "fake", name)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	err = v.Run(ctx, a, arm.Job{Scenario: "fake", Arm: name}, func(e arm.Event) { events = append(events, e) })
	return events, err
}

func TestVagrantRuns(t *testing.T) {
	needNamespaces(t)
	g := NewWithT(t)
	s := newStandIns(t, stateNone, "")
	v := s.vagrant(false)
	for range 2 {
		events, err := s.run(t, v, "well")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(events[len(events)-1].Type).To(Equal(arm.EventDone))
	}
	_, err := s.run(t, v, "error")
	g.Expect(err).To(MatchError("the fault would not take"))
	g.Expect(v.Close()).To(Succeed())
	g.Expect(s.calls(t)).To(Equal([]string{"status", "up", "ssh-config"}), "up once, pushed once, and kept")
	g.Expect(filepath.Glob(filepath.Join(s.dir, RunPrefix+"*"))).To(BeEmpty(), "the arm's folder is gone")
}

func TestVagrantUsesWhatIsUpAndDestroysOnRequest(t *testing.T) {
	needNamespaces(t)
	g := NewWithT(t)
	s := newStandIns(t, stateRunning, "exit 1")
	v := s.vagrant(true)
	_, err := s.run(t, v, "well")
	g.Expect(err).NotTo(HaveOccurred())

	_, err = s.run(t, s.vagrant(false), "well")
	g.Expect(err).To(MatchError("another leaklab uses the box only at the moment"))

	g.Expect(v.Close()).To(Succeed())
	g.Expect(s.calls(t)).To(Equal([]string{"status", "ssh-config", "destroy"}))
}

// The box's own engine is used, and told of.
func TestVagrantOwnRuntime(t *testing.T) {
	needNamespaces(t)
	g := NewWithT(t)
	s := newStandIns(t, stateRunning, "")
	own := filepath.Join(s.dir, "own", "dockerd")
	g.Expect(os.MkdirAll(own, 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(own, "dockerd"), []byte("x"), 0o755)).To(Succeed())
	g.Expect(os.WriteFile(own+".version", []byte("docker-1.13.1-63\n"), 0o644)).To(Succeed())
	v := s.vagrant(false)
	v.boxes = boxes{{Name: "only", Subjects: []string{"dockerd@1.13*"}, Own: []string{"dockerd"}}}
	a := fake.Arms[0]
	a.Runtimes = []string{"dockerd@1.13.1"}
	var told arm.Event
	err := v.Run(context.Background(), a, arm.Job{Scenario: "fake", Arm: a.Name,
		Runtimes: map[string]string{"dockerd": "/nowhere/dockerd@1.13.1-e26c9764ff28/bin"}}, func(e arm.Event) {
		if e.Type == arm.EventRuntime {
			told = e
		}
	})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(told.Name).To(Equal("dockerd"))
	g.Expect(told.Fields).To(HaveKeyWithValue("version", "docker-1.13.1-63"))
	g.Expect(v.Close()).To(Succeed())
}

func TestVagrantBadEnds(t *testing.T) {
	for name, c := range map[string]struct {
		state, up string
		want      string
		destroyed bool
	}{
		"no provider": {stateNone, `echo "No usable default provider could be found for your system." >&2; exit 1`,
			"vagrant up: vagrant has no provider that works here: install vagrant-libvirt and libvirt, or VirtualBox", true},
		"no box": {stateNone, `echo "The box 'x' could not be found or" >&2; echo "could not be accessed" >&2; exit 1`,
			"vagrant up: the box is not here and cannot be fetched: vagrant box add, or LEAKLAB_BOX for another", true},
		"checksum mismatch": {stateNone, `echo "    default: leaklab: checksum mismatch of http://x/y.rpm: 1, want 2"; echo "The SSH command responded with a non-zero exit status." >&2; exit 1`,
			"vagrant up: checksum mismatch of http://x/y.rpm: 1, want 2", true},
		"left volume": {stateNone, `echo "Volume for domain is already created. Please run 'vagrant destroy' first." >&2; exit 1`,
			"vagrant up: an earlier machine has left its volume: virsh vol-list default, then virsh vol-delete", true},
		"of the user's own": {"shutoff", `echo "something else" >&2; exit 1`, "vagrant up: something else", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			s := newStandIns(t, c.state, c.up)
			_, err := s.run(t, s.vagrant(false), "well")
			g.Expect(err).To(MatchError(c.want))
			if c.destroyed {
				g.Expect(s.calls(t)).To(Equal([]string{"status", "up", "destroy"}), "no half-made machine stays")
			} else {
				g.Expect(s.calls(t)).To(Equal([]string{"status", "up"}), "what was there before stays")
			}
		})
	}
}

func TestVagrantConnectionLost(t *testing.T) {
	needNamespaces(t)
	g := NewWithT(t)
	s := newStandIns(t, stateRunning, "")
	// The first run pushes; then the connection breaks in the middle of an arm.
	v := s.vagrant(false)
	_, err := s.run(t, v, "well")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.WriteFile(filepath.Join(s.dir, "ssh"), []byte("#!/bin/sh\nsleep 0.2\necho 'client_loop: send disconnect: Broken pipe' >&2\nexit 255\n"), 0o755)).To(Succeed())
	_, err = s.run(t, v, "well")
	g.Expect(err).To(MatchError("the connection to the box only was lost: client_loop: send disconnect: Broken pipe"))
	g.Expect(v.Close()).To(Succeed())
	g.Expect(s.calls(t)).NotTo(ContainElement("destroy"))
}

func TestVagrantInterrupted(t *testing.T) {
	needNamespaces(t)
	g := NewWithT(t)
	s := newStandIns(t, stateRunning, "")
	v := s.vagrant(false)
	a, err := arm.Find([]arm.Scenario{fake}, "fake", "waits")
	g.Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(context.Background())
	err = v.Run(ctx, a, arm.Job{Scenario: "fake", Arm: "waits"}, func(e arm.Event) {
		if e.Type == arm.EventNote && e.Text == "waiting" {
			cancel()
		}
	})
	g.Expect(err).To(MatchError(ErrInterrupted))
	g.Expect(v.Close()).To(Succeed())
	g.Expect(filepath.Glob(filepath.Join(s.dir, RunPrefix+"*"))).To(BeEmpty())
}

func TestVagrantLacks(t *testing.T) {
	if selfIsStatic() != nil {
		t.Skip("this test binary is linked dynamically")
	}
	g := NewWithT(t)
	t.Setenv(VagrantDirVariable, "../../vagrant")
	t.Setenv("PATH", t.TempDir())
	g.Expect((&Vagrant{}).Lacks(arm.Arm{})).To(MatchError(ContainSubstring("needs vagrant (")))

	s := newStandIns(t, stateNone, "")
	g.Expect(os.WriteFile(filepath.Join(s.dir, "vagrant"), []byte("#!/bin/sh\necho no plugins\n"), 0o755)).To(Succeed())
	t.Setenv("PATH", s.dir+":/bin:/usr/bin")
	if _, err := exec.LookPath("VBoxManage"); err == nil {
		t.Skip("VirtualBox is installed")
	}
	g.Expect((&Vagrant{}).Lacks(arm.Arm{})).To(MatchError(ContainSubstring("no provider that can be used here")))
}

func TestBoxRefusesWhatDoesNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		vm   arm.VM
		want string
	}{
		"kernel":  {arm.VM{Kernel: "2.6"}, "it is about kernel 2.6, the box runs "},
		"cmdline": {arm.VM{Cmdline: []string{"cgroup.memory=nokmem,leaklab"}}, "was not booted with cgroup.memory=nokmem,leaklab"},
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(fitBox(context.Background(), c.vm)).To(MatchError(ContainSubstring(c.want)))
		})
	}
}

func TestBoxTellsFailures(t *testing.T) {
	g := NewWithT(t)
	var out strings.Builder
	err := Box(strings.NewReader(`{"scenario":"fake","arm":"none"}`+"\n"), &out, []arm.Scenario{fake})
	g.Expect(err).To(HaveOccurred())
	var e arm.Event
	g.Expect(json.Unmarshal([]byte(out.String()), &e)).To(Succeed())
	g.Expect(e.Type).To(Equal(arm.EventFailed))
	g.Expect(e.Text).To(Equal("this agent knows no arm fake/none"))
}

func TestTellingPart(t *testing.T) {
	g := NewWithT(t)
	g.Expect(tellingPart("")).To(Equal("it said nothing"))
	g.Expect(tellingPart("\nfirst\r\nsecond\n")).To(Equal("first"))
	g.Expect(errors.Is(vagrantError([]string{"up"}, exec.ErrNotFound, ""), exec.ErrNotFound)).To(BeTrue())
}

func TestCleanSSH(t *testing.T) {
	g := NewWithT(t)
	t.Setenv("TMPDIR", t.TempDir())
	c, err := newSSHConfig("Host box\n")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(cleanSSH()).To(BeEmpty(), "it is in use")
	g.Expect(c.lock.Unlock()).To(Succeed()) // as a kill does
	g.Expect(cleanSSH()).To(HaveLen(1))
	g.Expect(c.dir).NotTo(BeADirectory())
}
