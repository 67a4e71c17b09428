package recipe

import (
	_ "embed"

	"github.com/leaklab/leaklab/harness/runtimes"
)

// Stand-ins of our own, compiled into the engines. They are kept as text where
// they only compile beside the engine they belong to.
var (
	//go:embed standin/noswarm.go.txt
	standInCluster string
	//go:embed standin/swarmkit.go.txt
	standInSwarmkit string
	//go:embed standin/rc2spec/rc2spec.go
	standInRC2Spec string
)

const (
	moduleDocker       = "github.com/docker/docker"
	moduleDistribution = "github.com/docker/distribution"
	moduleEvents       = "github.com/docker/go-events"
	moduleLibnetwork   = "github.com/docker/libnetwork"
)

// Dockerd1131 is dockerd 1.13.1, the engine of the stats report, with the
// containerd and runc it drives. The folder of its binaries is a complete PATH
// for it, and should be its whole PATH: where this libnetwork finds iptables it
// makes a chain of its own even with --iptables=false.
func Dockerd1131() runtimes.Recipe {
	sources := []runtimes.Source{dockerd1131()}
	sources = append(sources, Containerd02().Sources...)
	sources = append(sources, Runc("1.1.5").Sources...)
	return runtimes.Recipe{Name: "dockerd", Version: "1.13.1", Sources: sources}
}

// dockerd1131 compiles the daemon alone.
//
// Its neighbours are the nearest versions that the module proxy serves, not
// always those of docker's vendor.conf: libnetwork is of 2017-09 instead of
// 2017-02, and distribution, go-connections and go-events are releases or
// commits near the ones named there. What fails in libnetwork, the restoring
// of sandboxes and the handling of network namespaces, was compared and is the
// same in both. The swarmkit of that time is not served at all, so swarm mode
// is left out.
//
// The pins say go 1.16 so that the go command keeps to the rules of modules
// without go.mod and the run-time library to its oldest defaults.
func dockerd1131() runtimes.GoBuild {
	mod, sum := pins("dockerd-1.13.1")
	return runtimes.GoBuild{
		Mod: mod,
		Sum: sum,
		Files: map[string]string{
			"noswarm/noswarm.go":          standInCluster,
			"rc2spec/rc2spec.go":          standInRC2Spec,
			"swarmkit/go.mod":             "module github.com/docker/swarmkit\n",
			"swarmkit/agent/exec/exec.go": standInSwarmkit,
		},
		Targets: []runtimes.Target{{Package: moduleDocker + "/cmd/dockerd", Out: "dockerd"}},
		// What is left is vfs, which needs neither cgo nor a kernel feature.
		Tags: []string{
			"exclude_graphdriver_aufs",
			"exclude_graphdriver_btrfs",
			"exclude_graphdriver_devicemapper",
			"exclude_graphdriver_overlay",
			"exclude_graphdriver_zfs",
		},
		Edits: dockerd1131Edits(),
	}
}

func dockerd1131Edits() []runtimes.Edit {
	return []runtimes.Edit{
		// Neighbours that compile together.
		{
			Module: moduleLibnetwork,
			Why:    "logrus has one import path in a build; docker 1.13 spells it with a capital",
			File:   "**/*.go",
			Old:    `"github.com/sirupsen/logrus"`,
			New:    `"github.com/Sirupsen/logrus"`,
			Count:  102,
		},
		{
			Module: moduleEvents,
			Why:    "logrus has one import path in a build; docker 1.13 spells it with a capital",
			File:   "*.go",
			Old:    `"github.com/sirupsen/logrus"`,
			New:    `"github.com/Sirupsen/logrus"`,
			Count:  3,
		},
		{
			Module: moduleLibnetwork,
			Why:    "docker 1.13 has this constant in capitals",
			File:   "controller.go",
			Old:    "plugingetter.Lookup",
			New:    "plugingetter.LOOKUP",
			Count:  2,
		},
		{
			Module: moduleDocker,
			Why:    "this libnetwork wants to be told that the network is an ingress network",
			File:   "daemon/network.go",
			Old:    "libnetwork.NetworkOptionIngress()",
			New:    "libnetwork.NetworkOptionIngress(true)",
		},
		{
			Module: moduleDocker,
			Why:    "go-connections 0.3 takes a group number; the socket belongs to root's group",
			File:   "pkg/listeners/listeners_unix.go",
			Old:    "sockets.NewUnixSocket(addr, socketGroup)",
			New:    "sockets.NewUnixSocket(addr, 0)",
		},
		{
			Module: moduleDistribution,
			Why:    "names of media types that distribution 2.6.0 has not yet",
			File:   "manifest/schema2/newer.go",
			Write: `package schema2

const (
	MediaTypeImageConfig       = MediaTypeConfig
	MediaTypeUncompressedLayer = "application/vnd.docker.image.rootfs.diff.tar"
)
`,
		},
		{
			Module: moduleDocker,
			Why:    "distribution 2.6.0 knows one media type of configurations (push only)",
			File:   "distribution/push_v2.go",
			Old:    "schema2.NewManifestBuilder(p.repo.Blobs(ctx), p.config.ConfigMediaType, imgConfig)",
			New:    "schema2.NewManifestBuilder(p.repo.Blobs(ctx), imgConfig)",
		},
		{
			Module: moduleDocker,
			Why:    "docker's own reference package has what distribution 2.6.0 has not yet (plugins only)",
			File:   "api/server/router/plugin/plugin_routes.go",
			Old:    "distreference.IsNameOnly(localRef)",
			New:    "reference.IsNameOnly(localRef)",
		},

		// Left out: what needs services or C libraries.
		{
			Module: moduleDocker,
			Why:    "no swarm mode: the swarmkit of 1.13.1 is not served",
			File:   "**/*.go",
			Old:    `"github.com/docker/docker/daemon/cluster"`,
			New:    `"runtime1131/noswarm"`,
			Count:  3,
		},
		{
			Module: moduleDocker,
			Why:    "no swarm mode: its routes go too",
			File:   "cmd/dockerd/daemon.go",
			Old:    "\t\tswarmrouter.NewRouter(c),\n",
		},
		{
			Module: moduleDocker,
			Why:    "no swarm mode: its routes go too",
			File:   "cmd/dockerd/daemon.go",
			Old:    "\tswarmrouter \"github.com/docker/docker/api/server/router/swarm\"\n",
		},
		{
			Module: moduleDocker,
			Why:    "only the json-file log driver: the others bring cloud clients along",
			File:   "daemon/logdrivers_linux.go",
			Write: `package daemon

import _ "github.com/docker/docker/daemon/logger/jsonfilelog"
`,
		},
		{
			Module: moduleDocker,
			Why:    "one error message went to cfssl's logger by mistake; logrus takes it",
			File:   "daemon/container_operations_unix.go",
			Old:    `"github.com/cloudflare/cfssl/log"`,
			New:    `log "github.com/Sirupsen/logrus"`,
		},
		{
			Module: moduleDocker,
			Why:    "no sqlite without cgo: no migration of links from docker 1.9",
			File:   "daemon/links_linux.go",
			Remove: true,
		},
		{
			Module: moduleDocker,
			Why:    "no sqlite without cgo: docker's own no-op for other systems serves here",
			File:   "daemon/links_notlinux.go",
			Old:    "// +build !linux\n",
		},

		// What a release build writes itself.
		{
			Module: moduleDocker,
			Why:    "docker's build script fills in the version",
			File:   "dockerversion/version_lib.go",
			Old:    `Version            string = "library-import"`,
			New:    `Version            string = "1.13.1"`,
		},

		// dockerd speaks runtime-spec 1.0.0-rc2, and the containerd and runc
		// that can be built speak 1.0. Both read the bundle's config.json, so
		// a wrapper around runc would come too late; the daemon reads its file
		// again for exec, so it cannot simply be replaced. Hence two files.
		{
			Module: moduleDocker,
			Why:    "runtime-spec: the daemon's own file gets another name",
			File:   "libcontainerd/container.go",
			Old:    `"config.json"`,
			New:    `"config-rc2.json"`,
		},
		{
			Module: moduleDocker,
			Why:    "runtime-spec: config.json is written as containerd and runc read it",
			File:   "libcontainerd/client_unix.go",
			Old:    "\treturn container.start(checkpoint, checkpointDir, attachStdio)\n",
			New: `	if err := rc2spec.WriteFile(filepath.Join(container.dir, "config.json"), spec); err != nil {
		return err
	}
	return container.start(checkpoint, checkpointDir, attachStdio)
`,
		},
		{
			Module: moduleDocker,
			Why:    "runtime-spec: import of the translation",
			File:   "libcontainerd/client_unix.go",
			Old:    "\t\"golang.org/x/net/context\"\n",
			New:    "\t\"golang.org/x/net/context\"\n\t\"runtime1131/rc2spec\"\n",
		},
	}
}
