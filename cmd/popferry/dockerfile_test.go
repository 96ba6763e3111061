package main

import (
	"bytes"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"popferry/fetcher/maildrop/maildroptest"
	"popferry/targets/targetstest"
)

// instructions returns the Dockerfile, an instruction an element.
func instructions(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(strings.ReplaceAll(string(b), "\\\n", " ")) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

// What the image starts exists, and it keeps its state where a volume is.
func TestDockerfile_commands(t *testing.T) {
	all := instructions(t)
	list := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(`[]", `, r) })
	}
	for _, line := range all {
		if cmd, ok := strings.CutPrefix(line, "CMD "); ok {
			understood(t, "Dockerfile", list(cmd))
		}
		if _, cmd, ok := strings.Cut(line, ` CMD ["/popferry"`); ok && strings.HasPrefix(line, "HEALTHCHECK ") {
			understood(t, "Dockerfile", list(cmd))
		}
		if strings.HasPrefix(line, "VOLUME") {
			t.Error("a VOLUME makes one without a name")
		}
	}
	for _, want := range []string{"FROM scratch", "USER 65532:65532", `ENTRYPOINT ["/popferry"]`, "ENV POPFERRY_STATE=/data/popferry.db TMPDIR=/data", `CMD ["serve"]`} {
		if !slices.Contains(all, want) {
			t.Errorf("no %s", want)
		}
	}
}

// copied copies what .dockerignore lets through, as COPY does.
func copied(t *testing.T, to string) {
	t.Helper()
	root := filepath.Join("..", "..")
	b, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "!")
		if !ok {
			continue
		}
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(at, os.DirFS(filepath.Join(root, name)))
		} else if b, err = os.ReadFile(filepath.Join(root, name)); err == nil {
			err = os.WriteFile(at, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDockerfile does by hand what the Dockerfile says, in a plain directory,
// and runs the program as the image would: as any user, with a configuration it
// may only read. It takes as long as a build takes.
func TestDockerfile(t *testing.T) {
	const roots = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(roots); err != nil || runtime.GOOS != "linux" {
		t.Skip("no Linux with CA roots")
	}
	if testing.Short() {
		t.Skip("builds the program")
	}
	dir := t.TempDir()
	src, image := filepath.Join(dir, "src"), filepath.Join(dir, "image")
	copied(t, src)
	for _, line := range instructions(t) {
		if line == "FROM scratch" {
			break
		}
		step, ok := strings.CutPrefix(line, "RUN ")
		if !ok {
			continue
		}
		cmd := exec.Command("sh", "-ec", strings.ReplaceAll(step, "/image", image))
		cmd.Dir = src
		if out, err := cmd.CombinedOutput(); err != nil {
			if strings.HasPrefix(step, "go mod download") {
				t.Skipf("no modules: %s", out)
			}
			t.Fatalf("RUN %s: %v\n%s", step, err, out)
		}
	}
	var files []string
	if err := filepath.WalkDir(image, func(path string, e fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(image, path); !e.IsDir() {
			files = append(files, rel)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"etc/ssl/certs/ca-certificates.crt", "popferry"}; !slices.Equal(files, want) {
		t.Errorf("the image holds %v", files)
	}
	static(t, filepath.Join(image, "popferry"))
	if info, err := os.Stat(filepath.Join(image, "data")); err != nil || info.Mode()&fs.ModeSticky == 0 || info.Mode().Perm() != 0o777 {
		t.Errorf("/data: %v (%v)", info, err)
	}
	runImage(t, dir, image)
}

// static checks that the program needs no other file to run.
func static(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); len(libs) > 0 || err != nil {
		t.Errorf("it needs %v (%v)", libs, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a dynamic linker")
		}
	}
}

// runImage runs one pass as another user.
func runImage(t *testing.T, dir, image string) {
	pop := maildroptest.New("jane", canary)
	pop.Add("jane", "u1", []byte("From: rita@example.org\r\nSubject: hello\r\nMessage-ID: <u1@example.org>\r\n\r\nhello\r\n"))
	box := &targetstest.IMAP{User: "jane", Password: canary}
	for _, s := range []interface{ Start() error }{pop, box} {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
	defer pop.Close()
	defer box.Close()
	for path, content := range map[string]string{"config/password": canary + "\n", "config/popferry.yaml": "accounts:\n" +
		"  isp: {host: 127.0.0.1, port: \"${POP3_PORT}\", tls: none, user: jane, password_file: password}\ntargets:\n" +
		"  home: {host: 127.0.0.1, port: \"${IMAP_PORT}\", tls: none, user: jane, password_file: password}\njobs: [{from: isp, to: home}]\n"} {
		if err := os.WriteFile(filepath.Join(image, path), []byte(content), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	for path := dir; path != filepath.Clean(os.TempDir()) && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(image, "config"), 0o555); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(image, "data")
	cmd := exec.Command(filepath.Join(image, "popferry"), "--config", filepath.Join(image, "config/popferry.yaml"), "run", "--allow-temporary-state")
	cmd.Dir = "/"
	cmd.Env = []string{"POPFERRY_STATE=" + filepath.Join(data, "popferry.db"), "TMPDIR=" + data, "POP3_PORT=" + strconv.Itoa(pop.Port()), "IMAP_PORT=" + strconv.Itoa(box.Port())}
	as(cmd, 12345)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || len(box.Messages("INBOX")) != 1 {
		t.Errorf("%v, %d messages\n%s", err, len(box.Messages("INBOX")), out.String())
	}
	if info, err := os.Stat(filepath.Join(data, "popferry.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the state: %v (%v)", info, err)
	}
}
