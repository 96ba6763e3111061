package config

// FolderOf is where a target puts what no rule sends elsewhere.
func FolderOf(t *Target) string { return t.folder() }
