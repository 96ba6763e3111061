package maildrop

import (
	"encoding/base64"
	"io"
	"log/slog"
)

func debugLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
