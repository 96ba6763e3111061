package imap_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"popferry/targets"
	"popferry/targets/endpoint"
	"popferry/targets/imap"
	"popferry/testdata/dovecot"
)

func TestDovecot_throughput(t *testing.T) {
	s := dovecot.Start(t)
	cfg := imap.Config{
		Server:        endpoint.Server{Host: s.Host, Port: s.IMAP, TLS: endpoint.Plain, User: "jane", Password: endpoint.SecretValue(dovecot.Password), Timeout: 10 * time.Second},
		CreateFolders: true, Subscribe: true,
	}
	tg, err := cfg.Open("d", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer tg.Close()
	ctx := context.Background()
	body := "Message-ID: <%d@x>\r\n\r\n" + strings.Repeat("hello world this is text\r\n", 310)
	for _, folders := range []int{1, 50} {
		const n = 4000
		work := make(chan int)
		var wg sync.WaitGroup
		t0 := time.Now()
		for range 256 {
			wg.Go(func() {
				for i := range work {
					b := fmt.Sprintf(body, i)
					folder := fmt.Sprintf("Lists/go%d", i%folders)
					if _, err := tg.(targets.Finder).Mark(ctx, folder); err != nil {
						t.Error(err)
						return
					}
					r, err := tg.Deliver(ctx, &targets.Message{Key: "k", Size: int64(len(b)), Body: strings.NewReader(b)}, targets.Dest{Folder: folder})
					if err != nil || r.UID == 0 {
						t.Error(r, err)
					}
				}
			})
		}
		for i := range n {
			work <- i
		}
		close(work)
		wg.Wait()
		el := time.Since(t0)
		t.Logf("%d folders: %.0f msg/s", folders, n/el.Seconds())
	}
	fs, err := tg.Check(ctx)
	t.Log(fs, err)
	_ = io.EOF
}
