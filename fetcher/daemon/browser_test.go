package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// browser is a headless Chromium that is spoken to in the DevTools protocol over
// a pipe: JSON objects, each ended by a NUL.
type browser struct {
	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	session string // of the one tab
	id      int
	seen    []event // not looked at yet
}

// event is what the browser tells on its own.
type event struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// startBrowser starts Debian's chromium, if it is there. POPFERRY_BROWSER=1
// demands it, and another value names another one. It ends with the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	name := os.Getenv("POPFERRY_BROWSER")
	asked := name != ""
	if name == "" || name == "1" {
		name = "chromium"
	}
	path, err := exec.LookPath(name)
	switch {
	case err != nil && asked:
		t.Fatal(err)
	case err != nil:
		t.Skipf("no browser: %v (apt-get install chromium, or name one in POPFERRY_BROWSER)", err)
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	// All names lead nowhere, so that nothing leaves this machine.
	cmd := exec.CommandContext(ctx, path, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--user-data-dir="+dir, "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close() // it ends itself then
		if err := cmd.Wait(); err != nil && t.Failed() {
			t.Logf("%s: %v\n%s", name, err, stderr.String())
		}
		cancel()
		out.Close()
	})
	b.attach()
	return b
}

// attach opens a tab and watches what it does.
func (b *browser) attach() {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("Target.createTarget", m{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	b.call("Target.attachToTarget", m{"targetId": target.TargetID, "flatten": true}, &session)
	b.session = session.SessionID
	for _, domain := range []string{"Page", "Network", "Runtime", "Log", "Audits"} {
		b.call(domain+".enable", nil, nil)
	}
}

// m is an object in JSON.
type m = map[string]any

// call sends a command and waits for its response.
func (b *browser) call(method string, params m, result any) {
	b.t.Helper()
	b.id++
	msg := m{"id": b.id, "method": method}
	if params != nil {
		msg["params"] = params
	}
	if b.session != "" {
		msg["sessionId"] = b.session
	}
	text, err := json.Marshal(msg)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		e, response := b.read()
		if response == nil {
			b.seen = append(b.seen, e)
			continue
		}
		if response.ID != b.id {
			b.t.Fatalf("response %d to command %d", response.ID, b.id)
		}
		if response.Error != nil {
			b.t.Fatalf("%s: %s", method, *response.Error)
		}
		if result != nil {
			if err := json.Unmarshal(response.Result, result); err != nil {
				b.t.Fatalf("%s: %v: %s", method, err, response.Result)
			}
		}
		return
	}
}

// response is what comes back to a command.
type response struct {
	ID     int              `json:"id"`
	Result json.RawMessage  `json:"result"`
	Error  *json.RawMessage `json:"error"`
}

// read reads an event, or an response.
func (b *browser) read() (e event, a *response) {
	b.t.Helper()
	text, err := b.out.ReadBytes(0)
	if err != nil {
		b.t.Fatalf("the browser ended: %v", err)
	}
	text = bytes.TrimSuffix(text, []byte{0})
	a = new(response)
	if err := json.Unmarshal(text, a); err != nil {
		b.t.Fatalf("%v: %s", err, text)
	}
	if a.ID != 0 {
		return e, a
	}
	if err := json.Unmarshal(text, &e); err != nil {
		b.t.Fatalf("%v: %s", err, text)
	}
	return e, nil
}

// open goes to an address and waits until all of it is there. It returns what
// happened meanwhile.
func (b *browser) open(url string) []event {
	b.t.Helper()
	b.seen = nil
	b.call("Page.navigate", m{"url": url}, nil)
	return b.loaded()
}

// loaded waits for the end of loading.
func (b *browser) loaded() []event {
	b.t.Helper()
	for i := 0; ; i++ {
		if i == len(b.seen) {
			e, a := b.read()
			if a != nil {
				b.t.Fatalf("an response to nothing: %d", a.ID)
			}
			b.seen = append(b.seen, e)
		}
		if b.seen[i].Method == "Page.loadEventFired" {
			all := b.seen
			b.seen = nil
			return all
		}
	}
}

// eval is the value of an expression, from the page's own world.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails *json.RawMessage
	}
	b.call("Runtime.evaluate", m{"expression": expression, "returnByValue": true, "userGesture": true}, &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, *got.ExceptionDetails)
	}
	return fmt.Sprint(got.Result.Value)
}

// screen sets the size of the window and whether the user likes it dark.
func (b *browser) screen(width, height int, dark bool) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", m{"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 500}, nil)
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.call("Emulation.setEmulatedMedia", m{"features": []m{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// shoot writes a picture of the whole page to the directory that
// POPFERRY_SHOTS names, if it is set.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("POPFERRY_SHOTS")
	if dir == "" {
		return
	}
	var got struct{ Data string }
	b.call("Page.captureScreenshot", m{"format": "png", "captureBeyondViewport": true}, &got)
	png, err := base64.StdEncoding.DecodeString(got.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// requests are the addresses that events say were asked for.
func requests(t *testing.T, events []event) (urls []string) {
	t.Helper()
	for _, e := range events {
		if e.Method == "Network.requestWillBeSent" {
			var p struct{ Request struct{ URL string } }
			if err := json.Unmarshal(e.Params, &p); err != nil {
				t.Fatal(err)
			}
			urls = append(urls, p.Request.URL)
		}
	}
	return urls
}

// complaints are what the browser found wrong: errors of scripts, what the
// content policy forbade, and whatever else it would write to its console.
func complaints(events []event) (texts []string) {
	for _, e := range events {
		switch {
		case e.Method == "Log.entryAdded" && strings.Contains(string(e.Params), "/favicon.ico"):
			// a browser asks for it whatever it was shown
		case e.Method == "Runtime.exceptionThrown", e.Method == "Runtime.consoleAPICalled", e.Method == "Log.entryAdded", e.Method == "Audits.issueAdded":
			texts = append(texts, e.Method+": "+string(e.Params))
		}
	}
	return texts
}
