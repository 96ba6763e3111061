package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Mounts as the engines make them.
const (
	overlayRoot = "1000 900 0:60 / / rw,relatime master:300 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/X,upperdir=/u,workdir=/w\n"
	procMount   = "1001 1000 0:63 / /proc rw,nosuid - proc proc rw\n"
	namedVolume = "1010 1000 254:1 /var/lib/docker/volumes/popferry-data/_data /data rw,relatime master:1 - ext4 /dev/vda1 rw\n"
	anonymous   = "1010 1000 254:1 /var/lib/docker/volumes/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/_data /data rw,relatime - ext4 /dev/vda1 rw\n"
	podAnon     = "1010 1000 254:1 /home/jane/.local/share/containers/storage/volumes/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/_data /data rw - btrfs /dev/vda1 rw\n"
	bindMount   = "1010 1000 254:1 /srv/popferry /data rw,relatime - ext4 /dev/vda1 rw\n"
	emptyDir    = "1010 1000 254:1 /var/lib/kubelet/pods/8b1f/volumes/kubernetes.io~empty-dir/data /data rw,relatime - ext4 /dev/vda1 rw\n"
	claim       = "1010 1000 8:16 / /data rw,relatime - ext4 /dev/sdb rw\n"
	tmpfsData   = "1010 1000 0:70 / /data rw,nosuid - tmpfs tmpfs rw,size=64m\n"
	ext4Root    = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
	btrfsRoot   = "27 1 0:30 /@/var/lib/docker/btrfs/subvolumes/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef / rw - btrfs /dev/vda2 rw\n"
	vfsRoot     = "27 1 254:0 /var/lib/containers/storage/vfs/dir/abc / rw,relatime - xfs /dev/vda rw\n"
	gvisorRoot  = "1 0 0:1 / / rw - 9p none rw,trans=fd\n"
	oddName     = "1010 1000 254:1 /srv/my\\040data /my\\040data rw shared:1 master:2 - ext4 /dev/vda1 rw\n"
)

// machine makes a Machine of files.
func machine(t *testing.T, env map[string]string, files map[string]string) Machine {
	t.Helper()
	m := Machine{Root: t.TempDir(), Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	for name, content := range files {
		path := filepath.Join(m.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestGround(t *testing.T) {
	docker := map[string]string{".dockerenv": ""}
	podman := map[string]string{"run/.containerenv": ""}
	hybrid := map[string]string{"proc/1/cgroup": "12:pids:/docker/0123\n0::/\n"}
	host := map[string]string{"proc/1/cgroup": "0::/init.scope\n"}
	kube := map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
	for name, tt := range map[string]struct {
		env    map[string]string
		marks  map[string]string
		mounts string
		path   string
		err    string // in the error; "" for none
		warn   bool
		text   string
	}{
		"no volume":             {nil, docker, overlayRoot + procMount, "/data/popferry.db", "inside the container", false, ""},
		"named volume":          {nil, docker, overlayRoot + namedVolume, "/data/popferry.db", "", false, "on a volume"},
		"below a volume":        {nil, docker, overlayRoot + namedVolume, "/data/not/there/yet.db", "", false, "on a volume"},
		"beside a volume":       {nil, docker, overlayRoot + namedVolume, "/database/popferry.db", "inside the container", false, ""},
		"unnamed volume":        {nil, docker, overlayRoot + anonymous, "/data/popferry.db", "without a name", false, ""},
		"unnamed, Podman":       {nil, podman, overlayRoot + podAnon, "/data/popferry.db", "without a name", false, ""},
		"bind mount":            {nil, podman, overlayRoot + bindMount, "/data/popferry.db", "", false, "on a volume"},
		"tmpfs in a container":  {nil, hybrid, overlayRoot + tmpfsData, "/data/popferry.db", "inside the container", false, ""},
		"mounted over":          {nil, docker, overlayRoot + namedVolume + tmpfsData, "/data/popferry.db", "inside the container", false, ""},
		"btrfs driver":          {nil, docker, btrfsRoot, "/data/popferry.db", "inside the container", false, ""},
		"vfs driver":            {nil, podman, vfsRoot, "/data/popferry.db", "inside the container", false, ""},
		"gVisor":                {nil, docker, gvisorRoot, "/data/popferry.db", "inside the container", false, ""},
		"machine from an image": {nil, docker, ext4Root, "/data/popferry.db", "", false, "on a disk"},
		"emptyDir":              {kube, nil, overlayRoot + emptyDir, "/data/popferry.db", "lost with the pod", false, ""},
		"claim":                 {kube, nil, overlayRoot + claim, "/data/popferry.db", "", false, "on a volume"},
		"pod without volume":    {kube, nil, overlayRoot, "/data/popferry.db", "inside the container", false, ""},
		"no container":          {nil, host, ext4Root + namedVolume, "/data/popferry.db", "", false, ""},
		"tmpfs on a machine":    {nil, host, ext4Root + tmpfsData, "/data/popferry.db", "", true, ""},
		"live system":           {nil, host, overlayRoot, "/data/popferry.db", "", false, ""},
		"no /proc":              {nil, docker, "", "/data/popferry.db", "", false, ""},
		"damaged":               {nil, docker, "x\n1 2 3\n" + "1 2 3 4 5 6 -\n", "/data/popferry.db", "", false, ""},
		"blank in a name":       {nil, docker, overlayRoot + oddName, "/my data/popferry.db", "", false, "on a volume"},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine(t, tt.env, tt.marks)
			if tt.mounts != "" {
				file := filepath.Join(m.Root, "proc/self/mountinfo")
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(tt.mounts), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			g := m.groundOf(tt.path, filepath.Dir(tt.path))
			err := g.Err()
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v", err)
			}
			if warn := g.Warning(); (warn != "") != tt.warn {
				t.Errorf("warning %q", warn)
			}
			if g.String() != tt.text {
				t.Errorf("%q", g)
			}
			var e *Error
			if errors.As(err, &e) && (e.Code != CodeNotPersistent || !strings.Contains(e.Hint, "--allow-temporary-state") ||
				strings.Contains(e.Hint, "PersistentVolumeClaim") != (tt.env != nil)) {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A link to another place counts as that place, and what is not there yet as
// the directory above it.
func TestGround_real(t *testing.T) {
	real := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	want, err := filepath.EvalSymlinks(real)
	if err != nil {
		t.Fatal(err)
	}
	if got := existing(filepath.Join(link, "a", "b")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	g := Machine{}.Ground(filepath.Join(real, "popferry.db"))
	if _, err := os.Stat("/proc/self/mountinfo"); err == nil && (g.FS == "" || g.Mount == "") {
		t.Errorf("%+v", g)
	}
}

// FuzzMountinfo never panics, and what it returns stands in the text.
func FuzzMountinfo(f *testing.F) {
	for _, s := range []string{overlayRoot, procMount, namedVolume, anonymous, emptyDir, oddName, "", "-", "1 2 3 4 /x 6 - a b", "1 2 3 4 /\\0 5 - \\777 b"} {
		f.Add([]byte(overlayRoot+s), "/data")
		f.Add([]byte(s), "/my data")
	}
	f.Fuzz(func(t *testing.T, b []byte, dir string) {
		m, ok := mountOf(b, dir)
		if ok && (!within(dir, m.point) || !strings.Contains(string(b), m.fs) || m.fs == "") {
			t.Errorf("%+v", m)
		}
		if !ok && m != (mount{}) {
			t.Errorf("%+v without a line", m)
		}
	})
}
