package dovecot

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// process is a Dovecot master and everything it has started.
type process struct {
	pid    int
	ended  chan struct{}  // closed when the master has ended
	logged sync.WaitGroup // who reads its log
}

// startProcess runs a command as a process group that does not survive this
// process: a test that panics or times out runs no clean-up.
func startProcess(stderr *os.File, name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p := &process{ended: make(chan struct{})}
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

// stop asks the master to end, and waits until everything has.
func (p *process) stop() { p.end(p.pid, syscall.SIGTERM) }

// kill ends everything at once.
func (p *process) kill() { p.end(-p.pid, syscall.SIGKILL) }

func (p *process) end(whom int, sig syscall.Signal) {
	syscall.Kill(whom, sig) // one that has ended already is fine
	<-p.ended
	syscall.Kill(-p.pid, syscall.SIGKILL) // sessions that outlive their master
	p.logged.Wait()
}
