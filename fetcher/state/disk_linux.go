package state

import "golang.org/x/sys/unix"

// networkFS are the statfs types of file systems that other hosts may write to,
// or whose shared memory cannot be relied on. FUSE is among them because it may
// be anything (sshfs, virtiofs).
var networkFS = map[int64]bool{
	unix.NFS_SUPER_MAGIC:   true,
	unix.SMB_SUPER_MAGIC:   true,
	unix.SMB2_SUPER_MAGIC:  true,
	unix.CIFS_SUPER_MAGIC:  true,
	unix.CEPH_SUPER_MAGIC:  true,
	unix.AFS_SUPER_MAGIC:   true,
	unix.AFS_FS_MAGIC:      true,
	unix.CODA_SUPER_MAGIC:  true,
	unix.NCP_SUPER_MAGIC:   true,
	unix.OCFS2_SUPER_MAGIC: true,
	unix.V9FS_MAGIC:        true,
	unix.FUSE_SUPER_MAGIC:  true,
	0x0bd00bd0:             true, // Lustre
	0x47504653:             true, // GPFS
	0x01161970:             true, // GFS2
}

func isNetwork(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	// Some kernels give the type as a signed 32-bit number.
	return err == nil && networkFS[int64(uint32(st.Type))] //nolint:gosec // cut on purpose
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil //nolint:gosec // a block size
}
