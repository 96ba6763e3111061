//go:build unix

package daemon

import (
	"os/exec"
	"syscall"
)

// group makes what ends cmd end all that it has started, too.
func group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
