package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"popferry/fetcher/config"
	"popferry/targets/endpoint"
)

const systemdLong = `Prints a unit that runs popferry serve under systemd, hardened, with the paths of
this program and of the configuration. With --timer it prints a unit that runs one
pass, and a timer for it, each below a line that says where it goes.

Passwords stay in files that only root may read: what the configuration names as
${CREDENTIALS_DIRECTORY:-/etc/popferry}/isp, systemd reads from /etc/popferry/isp
and hands to popferry alone.`

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "make use of the configuration elsewhere", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.systemdCommand())
	return cmd
}

func (a *app) systemdCommand() *cobra.Command {
	var timer bool
	cmd := &cobra.Command{
		Use: "systemd", Short: "print a unit for systemd", Long: systemdLong, Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			if exe, err = filepath.EvalSymlinks(exe); err != nil {
				return err
			}
			return a.systemdUnits(exe, timer)
		},
	}
	cmd.Flags().BoolVar(&timer, "timer", false, "one pass at a time, started by a timer, in place of serve")
	return cmd
}

// credentials is where systemd puts them for a unit that is called popferry.
const credentials = "/run/credentials/popferry.service"

// ownState is the directory that StateDirectory= makes for it.
const ownState = "/var/lib/popferry/"

// systemdUnits prints the unit, or both of them, for the program at exe.
func (a *app) systemdUnits(exe string, timer bool) error {
	path, err := a.find()
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	u, err := a.unitOf(exe, path, config.Load)
	if err != nil {
		return err
	}
	u.doubts()
	if timer {
		a.stdout.print("# /etc/systemd/system/popferry.service\n" + u.oneshot() + "\n# /etc/systemd/system/popferry.timer\n" + u.timer())
	} else {
		a.stdout.print(u.service())
	}
	for _, n := range u.notes {
		a.stderr.print(n + "\n")
	}
	return nil
}

// unitOf makes a unit for the configuration that load reads from path.
func (a *app) unitOf(exe, path string, load func(string, func(string) (string, bool)) (*config.Config, error)) (*unit, error) {
	// The configuration is read as popferry will see it under systemd, and to know
	// where its secrets are outside of that, once more as it is seen there.
	with := func(dir string) func(string) (string, bool) {
		return func(name string) (string, bool) {
			switch name {
			case "CREDENTIALS_DIRECTORY":
				return dir, dir != ""
			case "POPFERRY_STATE":
				return ownState + "popferry.db", true
			}
			return a.env(name)
		}
	}
	inside, err := load(path, with(credentials))
	if err != nil {
		return nil, err
	}
	u := &unit{exe: exe, file: path, state: a.flags.state, config: inside}
	var outside []string
	if c, err := load(path, with("")); err == nil {
		outside = c.SecretFiles()
	}
	u.secrets(outside)
	return u, nil
}

// unit is what goes into units.
type unit struct {
	exe, file, state string
	config           *config.Config
	load             []string // LoadCredential=
	notes            []string // what a person should do
}

var credentialName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// secrets finds which of them are in files, and where these are for systemd. Such
// files are only for root to read, as a rule, so the configuration should name
// the credential. outside is where they are without systemd, if that is known.
func (u *unit) secrets(outside []string) {
	seen := map[string]string{}
	for i, path := range u.config.SecretFiles() {
		name, known := strings.CutPrefix(path, credentials+"/")
		from := path
		switch {
		case known && i < len(outside):
			from = outside[i]
		case known:
			from = filepath.Join(filepath.Dir(u.file), name)
		default:
			name = filepath.Base(path)
			u.notes = append(u.notes, fmt.Sprintf("For %s write in %s:  ${CREDENTIALS_DIRECTORY:-%s}/%s", path, filepath.Base(u.file), filepath.Dir(path), name))
		}
		other, twice := seen[name]
		switch {
		case twice && other == from:
		case twice, !credentialName.MatchString(name):
			u.notes = append(u.notes, fmt.Sprintf("%s needs another name, to be a credential of its own.", endpoint.Printable(from, 200)))
		default:
			seen[name] = from
			u.load = append(u.load, name+":"+from)
		}
	}
}

// doubts notes what of this machine would not work under systemd.
func (u *unit) doubts() {
	for _, p := range []string{u.exe, u.file} {
		for _, home := range []string{"/home/", "/root/", "/run/user/"} {
			if strings.HasPrefix(p, home) {
				u.notes = append(u.notes, fmt.Sprintf("The unit cannot see %s: move it to /usr/local/bin or /etc/popferry.", endpoint.Printable(p, 200)))
			}
		}
	}
	if info, err := os.Stat(u.file); err == nil && info.Mode().Perm()&0o004 == 0 {
		u.notes = append(u.notes, fmt.Sprintf("The unit cannot read %s: put passwords into files of their own, then chmod 644.", endpoint.Printable(u.file, 200)))
	}
}

// word quotes s for a unit file.
func word(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`"'\;$`, r) }) {
		s = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$", "\n", `\n`, "\t", `\t`).Replace(s) + `"`
	}
	return s
}

// command is what the unit starts.
func (u *unit) command(args ...string) string {
	words := []string{word(u.exe), "--config", word(u.file)}
	if s := cmp.Or(u.state, u.config.State); !strings.HasPrefix(s, ownState) {
		words = append(words, "--state", word(ownState+filepath.Base(s)))
	} else if u.state != "" {
		words = append(words, "--state", word(u.state))
	}
	return strings.Join(append(words, args...), " ")
}

const unitHead = `[Unit]
Description=popferry moves mail from POP3 to IMAP
Wants=network-online.target
After=network-online.target nss-lookup.target
`

// service is the unit of popferry serve.
func (u *unit) service() string {
	return unitHead + `
[Service]
Type=notify
NotifyAccess=main
ExecStart=` + u.command("serve") + `
ExecReload=/bin/kill -HUP $MAINPID
WatchdogSec=2min
TimeoutStopSec=60
Restart=on-failure
RestartSec=10
# 64 is a wrong command line, 78 a wrong configuration: trying again cures neither.
RestartPreventExitStatus=64 78
SuccessExitStatus=130 143
` + u.confinement() + `
[Install]
WantedBy=multi-user.target
`
}

// oneshot is the unit that a timer starts.
func (u *unit) oneshot() string {
	return unitHead + `
[Service]
Type=oneshot
ExecStart=` + u.command("--log-format", "text", "run") + `
TimeoutStartSec=infinity
TimeoutStopSec=60
# 75 is "try later", which the timer does.
SuccessExitStatus=75 130 143
` + u.confinement()
}

// timer starts the oneshot unit.
func (u *unit) timer() string {
	return `[Unit]
Description=popferry, every five minutes

[Timer]
OnBootSec=2min
OnUnitInactiveSec=5min
RandomizedDelaySec=30

[Install]
WantedBy=timers.target
`
}

// confinement is what the unit may do: speak to servers, and write its state.
func (u *unit) confinement() string {
	var b strings.Builder
	b.WriteString("\nDynamicUser=yes\nStateDirectory=popferry\nStateDirectoryMode=0700\nUMask=0077\n")
	for _, c := range u.load {
		b.WriteString("LoadCredential=" + word(c) + "\n")
	}
	if dirs := u.maildirs(); len(dirs) > 0 {
		b.WriteString("# A Maildir belongs to its reader: write User=NAME in place of DynamicUser=yes.\n")
		for _, d := range dirs {
			b.WriteString("ReadWritePaths=" + word(d) + "\n")
		}
	}
	b.WriteString(hardening)
	return b.String()
}

// maildirs are the directories that targets write to, and those above them, where
// a Maildir is made.
func (u *unit) maildirs() []string {
	var dirs []string
	for _, t := range u.config.Targets {
		if t.Type == "maildir" {
			dirs = append(dirs, filepath.Dir(t.Path))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

const hardening = `CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateUsers=yes
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
`
