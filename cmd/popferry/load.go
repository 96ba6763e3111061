package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"popferry/fetcher/config"
	"popferry/fetcher/state"
)

// load finds and reads the configuration, and lets it say how to log where the
// command line does not. The error of a configuration is config.Errors.
func (a *app) load() (*config.Config, error) {
	c, err := a.read()
	if err != nil {
		return nil, err
	}
	if !a.flags.quiet && a.flags.verbose == 0 {
		a.level = c.Log.Level
		a.verbose = c.Log.Level <= slog.LevelDebug
	}
	if a.flags.logFormat == "" {
		a.logFormat = c.Log.Format
	}
	a.log = a.logger()
	return c, nil
}

// find returns which file the configuration is.
func (a *app) find() (string, error) {
	path, _, err := config.Find(a.flags.config, a.env, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
	return path, err
}

// read finds and reads the configuration, keeps its secrets from commands that
// are started, and says where tokens are.
func (a *app) read() (*config.Config, error) {
	path, err := a.find()
	if err != nil {
		return nil, err
	}
	c, err := config.Load(path, a.env)
	if err != nil {
		return nil, err
	}
	if a.withhold != nil {
		for _, name := range c.SecretVars {
			a.withhold(name)
		}
	}
	c.KeepTokens(filepath.Join(filepath.Dir(a.statePath(c)), "tokens"))
	return c, nil
}

// warn logs what in a configuration is allowed and probably not meant.
func (a *app) warn(c *config.Config) {
	for _, w := range append(c.Warnings, c.Check()...) {
		a.log.Warn("configuration", "err", w)
	}
}

// statePath is where the state lies: --state, else what the configuration says.
func (a *app) statePath(c *config.Config) string { return cmp.Or(a.flags.state, c.State) }

// view opens the state for reading. It is nil, without an error, where there is
// none yet.
func view(ctx context.Context, path string) (*state.Store, error) {
	s, err := state.View(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing is remembered yet, which is no failure
	}
	return s, err
}

// names returns a completion of words that a configuration has.
func (a *app) names(of func(*config.Config) []string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		c, err := a.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return of(c), cobra.ShellCompDirectiveNoFileComp
	}
}
