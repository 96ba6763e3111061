package state

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Machine is what a process can see of what it runs in. The zero Machine is
// this one, without its environment.
type Machine struct {
	Root string                           // where /proc, /run and /.dockerenv are looked for; "" is /
	Env  func(name string) (string, bool) // nil for none
}

// Ground is what a state file stands on, as far as it matters for whether it
// will be there tomorrow.
type Ground struct {
	Container string // "Docker", "Podman", "Kubernetes" or "another kind"; "" if this is no container
	FS        string // type of the file system: "overlay", "tmpfs"; "" if it cannot be told
	Mount     string // where that is mounted: "/data"
	kind      kind
	dir       string
}

// kind is how long what lies there lasts.
type kind int

const (
	lasting kind = iota // or nobody knows better
	memory              // until the machine stops
	layer               // the container's own
	unnamed             // a volume that the next container does not get
	pod                 // a volume that ends with the pod
)

// Ground looks at where path is, which need not exist yet. Where there is no
// /proc nothing is known, and nothing is wrong.
func (m Machine) Ground(path string) Ground { return m.groundOf(path, existing(filepath.Dir(path))) }

// groundOf is Ground for a path whose directory is, or will be, at dir.
func (m Machine) groundOf(path, dir string) Ground {
	g := Ground{Container: m.container(), dir: filepath.Dir(path)}
	mounts, _ := m.read("/proc/self/mountinfo")
	at, ok := mountOf(mounts, dir)
	if !ok {
		return g
	}
	g.FS, g.Mount = at.fs, at.point
	inMemory := at.fs == "tmpfs" || at.fs == "ramfs"
	switch {
	case g.Container == "" && inMemory:
		g.kind = memory
	case g.Container == "":
	case strings.Contains(at.root, "/kubernetes.io~empty-dir/"):
		g.kind = pod
	case inMemory, at.point == "/" && at.ofContainer():
		g.kind = layer
	case unnamedVolume.MatchString(at.root):
		g.kind = unnamed
	}
	return g
}

// Err returns an *Error if the state will be gone with the container.
func (g Ground) Err() error {
	e := &Error{Code: CodeNotPersistent, Path: g.dir}
	switch g.kind {
	case layer:
		e.Text = "the state file is inside the container and will be lost when the container is recreated"
	case unnamed:
		e.Text = "the state file is on a volume without a name, which the next container will not have"
	case pod:
		e.Text = "the state file is on an emptyDir and will be lost with the pod"
	default:
		return nil
	}
	how := fmt.Sprintf("Add to compose:   volumes: [\"popferry-data:%s\"]", g.dir)
	if g.Container == "Kubernetes" {
		how = fmt.Sprintf("Mount a PersistentVolumeClaim at %s.", g.dir)
	}
	e.Hint = "Everything would be fetched once more then.\n" + how + "      Continue anyway: --allow-temporary-state"
	return e
}

// Warning says what is doubtful about the place though one may go on; "" if
// nothing is.
func (g Ground) Warning() string {
	if g.kind != memory {
		return ""
	}
	return fmt.Sprintf("the state file is in memory (%s at %s) and will be lost when the machine stops", g.FS, g.Mount)
}

// String says in a few words where the state is, in a container; "" elsewhere.
func (g Ground) String() string {
	if g.Container == "" || g.FS == "" || g.kind != lasting {
		return ""
	}
	if g.Mount == "/" {
		return "on a disk"
	}
	return "on a volume"
}

func (m Machine) read(path string) ([]byte, error) {
	const most = 4 << 20
	f, err := os.Open(filepath.Join("/", m.Root, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// engines are what container engines call their control groups.
var engines = regexp.MustCompile(`docker|kubepods|containerd|libpod|crio|buildkit|garden|lambda`)

// container says what kind of container this is, "" if none. System containers
// (LXC, systemd-nspawn) are machines here: what is written there stays.
func (m Machine) container() string {
	if m.Env != nil {
		if v, ok := m.Env("KUBERNETES_SERVICE_HOST"); ok && v != "" {
			return "Kubernetes"
		}
	}
	there := func(path string) bool {
		_, err := os.Lstat(filepath.Join("/", m.Root, path))
		return err == nil
	}
	switch {
	case there("/run/.containerenv"):
		return "Podman"
	case there("/.dockerenv"):
		return "Docker"
	}
	if groups, err := m.read("/proc/1/cgroup"); err == nil && engines.Match(groups) {
		return "another kind"
	}
	return ""
}

// existing returns dir, or the nearest directory above it that exists, without
// links.
func existing(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	for {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return real
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

// mount is a line of mountinfo.
type mount struct{ root, point, fs, source string }

// mountOf returns what is mounted where dir is (proc_pid_mountinfo(5)). Of
// several mounts on one point the last one is seen.
func mountOf(mountinfo []byte, dir string) (at mount, ok bool) {
	for line := range bytes.Lines(mountinfo) {
		m, good := parseMount(string(line))
		if good && within(dir, m.point) && (!ok || len(m.point) >= len(at.point)) {
			at, ok = m, true
		}
	}
	return at, ok
}

func within(dir, point string) bool {
	return dir == point || point == "/" || strings.HasPrefix(dir, point+"/")
}

// parseMount reads a line of mountinfo: any number of optional fields ends with
// a dash.
func parseMount(line string) (m mount, ok bool) {
	f := strings.Fields(line)
	dash := slices.Index(f, "-")
	if dash < 6 || len(f) < dash+3 || !strings.HasPrefix(f[4], "/") {
		return m, false
	}
	return mount{root: unescape(f[3]), point: unescape(f[4]), fs: f[dash+1], source: unescape(f[dash+2])}, true
}

var octal = regexp.MustCompile(`\\[0-3][0-7]{2}`)

// unescape undoes what the kernel does to blanks, tabs, line ends, backslashes
// and # in paths.
func unescape(s string) string {
	return octal.ReplaceAllStringFunc(s, func(o string) string {
		return string([]byte{(o[1]-'0')<<6 | (o[2]-'0')<<3 | (o[3] - '0')})
	})
}

var (
	// layered are the types of file systems that a container has for its own.
	// Others may be the disk of a virtual machine that was made from an image.
	layered = []string{"overlay", "overlayfs", "aufs", "fuse.fuse-overlayfs", "fuse-overlayfs", "unionfs", "rootfs", "9p", "virtiofs", "erofs", "squashfs"}
	// ownLayer is in the paths and devices of drivers that use ordinary file
	// systems: btrfs, zfs, vfs, device mapper.
	ownLayer = regexp.MustCompile(`docker|containers/|containerd|buildkit|[0-9a-f]{64}`)
	// unnamedVolume is the path of a volume that was made for one container,
	// because the image or the command line asked for one without a name.
	unnamedVolume = regexp.MustCompile(`/volumes/[0-9a-f]{64}/_data(/|$)`)
)

// ofContainer reports whether m, mounted at /, belongs to this container alone.
func (m mount) ofContainer() bool {
	return slices.Contains(layered, m.fs) || ownLayer.MatchString(m.root) || ownLayer.MatchString(m.source)
}
