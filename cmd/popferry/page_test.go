package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// freeAddress is an address on this machine where nothing listens now.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// cmdGet asks the page at $PAGE until it answers with a code and with something
// that matches, and checks that the password is not in it.
//
//	get 200 /metrics 'popferry_job_up{job="isp-to-home"} 1'
//	get 401 / 'user and password' [USER:PASSWORD]
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: get code path regexp [user:password]")
	}
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	want, err := regexp.Compile(args[2])
	ts.Check(err)
	said := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		var got int
		got, said = fetchPage("http://"+ts.Getenv("PAGE")+args[1], args[3:])
		if strings.Contains(said, canary) {
			ts.Fatalf("the password is on %s", args[1])
		}
		if got == code && want.MatchString(said) {
			return
		}
		said = fmt.Sprintf("%d %s", got, said)
	}
	ts.Fatalf("%s says\n%s", args[1], said)
}

// fetchPage asks once. An error is what it says.
func fetchPage(url string, login []string) (code int, said string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	for _, l := range login {
		user, password, _ := strings.Cut(l, ":")
		req.SetBasicAuth(user, password)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(body)
}
