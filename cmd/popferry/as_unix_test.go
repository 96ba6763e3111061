//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// as makes cmd run as another user, if this one may.
func as(cmd *exec.Cmd, id uint32) {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	}
}
