package process

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Process is a server's first process and everything it has started.
type Process struct {
	pid    int
	ended  chan struct{}  // closed when the master has ended
	Logged sync.WaitGroup // who reads its output
}

// Start runs a command as a process group that does not survive this process: a
// test that panics or times out runs no clean-up. Its output goes to out.
func Start(out *os.File, name string, args ...string) (*Process, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p := &Process{ended: make(chan struct{})}
	up := make(chan error)
	go func() {
		defer close(p.ended)
		// The death signal comes when the thread ends that started the command.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		up <- err
		if err == nil {
			cmd.Wait() // killed or stopped: its status says nothing more
		}
	}()
	if err := <-up; err != nil {
		<-p.ended
		return nil, err
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// Stop asks the first process to end, and waits until everything has.
func (p *Process) Stop() { p.end(p.pid, syscall.SIGTERM) }

// Kill ends everything at once.
func (p *Process) Kill() { p.end(-p.pid, syscall.SIGKILL) }

func (p *Process) end(whom int, sig syscall.Signal) {
	syscall.Kill(whom, sig) // one that has ended already is fine
	<-p.ended
	syscall.Kill(-p.pid, syscall.SIGKILL) // sessions that outlive it
	p.Logged.Wait()
}
