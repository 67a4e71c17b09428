// Package fault puts in place what the scenarios inject, and takes it away again.
package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// WedgeFile is the name of the one file of a [Wedge].
const WedgeFile = "never"

// Wedge is a FUSE mount with one file whose reads are not answered. A process
// that reads it sleeps interruptibly at first, but once it has been killed the
// kernel waits for the answer in state D, and nothing but the answer, or the
// end of the connection, frees it (request_wait_answer in the kernel's
// fs/fuse/dev.c). So a container whose pid 1 reads it cannot be stopped.
//
// It holds only as long as the process that mounted it: the connection's only
// descriptor is closed on exec, so however the process ends, kill -9 included,
// the kernel aborts the connection and every reader is freed.
type Wedge struct {
	dir        string
	connection uint32
	server     *fuse.Server
	served     chan struct{}

	mu       sync.Mutex
	hanging  int
	changed  chan struct{} // closed and replaced whenever hanging changes
	answered chan struct{}
	answer   sync.Once
	gone     chan struct{} // closed when the connection has ended, by whomever
}

// Mount mounts a wedge on dir, which must exist. It needs root, or a user
// namespace, and is never visible in mount namespaces that were split off
// before without propagation: mount it before the engine that is to use it
// starts.
func Mount(dir string) (*Wedge, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// Mounted here and not by the library, whose own descriptor could be
	// inherited by a child that starts in the same moment. That child would
	// keep the connection alive beyond the end of this process.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/fuse (modprobe fuse): %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other", fd, unix.S_IFDIR)
	if err := unix.Mount("leaklab", dir, "fuse.wedge", flags, options); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mounting FUSE on %s: %w", dir, err)
	}
	w := &Wedge{
		dir:      dir,
		served:   make(chan struct{}),
		changed:  make(chan struct{}),
		answered: make(chan struct{}),
		gone:     make(chan struct{}),
	}
	if err := w.watch(fd); err != nil {
		unix.Close(fd)
		return nil, errors.Join(err, w.unmount())
	}
	quiet := log.New(io.Discard, "", 0) // an aborted connection is no news
	root := fs.NewNodeFS(&wedgeRoot{w: w}, &fs.Options{Logger: quiet})
	// With this name the library serves a descriptor that is mounted already,
	// and owns it from then on.
	w.server, err = fuse.NewServer(root, fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{Logger: quiet})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the FUSE server: %w", err), w.unmount())
	}
	go func() {
		w.server.Serve()
		close(w.served)
	}()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, errors.Join(fmt.Errorf("the FUSE mount does not answer: %w", err), w.Close())
	}
	w.connection = unix.Minor(st.Dev)
	return w, nil
}

// Dir is where the wedge is mounted, for bind mounts into containers.
func (w *Wedge) Dir() string { return w.dir }

// Path is the file whose reads hang.
func (w *Wedge) Path() string { return filepath.Join(w.dir, WedgeFile) }

// ConnectionID is the connection's number, the N of
// /sys/fs/fuse/connections/N: who has no hold of this process frees the readers
// by writing 1 to its abort file.
func (w *Wedge) ConnectionID() uint32 { return w.connection }

// Hanging is the number of reads that wait for an answer now.
func (w *Wedge) Hanging() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hanging
}

// WaitHanging returns once at least n reads hang.
func (w *Wedge) WaitHanging(ctx context.Context, n int) error {
	for {
		w.mu.Lock()
		hanging, changed := w.hanging, w.changed
		w.mu.Unlock()
		if hanging >= n {
			return nil
		}
		select {
		case <-changed:
		case <-w.gone:
			return errors.New("the wedge's FUSE connection has ended")
		case <-ctx.Done():
			return fmt.Errorf("%d reads hang on the wedge, not %d: %w", hanging, n, context.Cause(ctx))
		}
	}
}

// Answer answers all reads, those that hang and later ones, with the end of the
// file. The readers go on, or die of the signals that they were sent.
func (w *Wedge) Answer() { w.answer.Do(func() { close(w.answered) }) }

// Abort ends the connection without an answer, as writing to its abort file
// does (a forced unmount takes the same way in the kernel, and needs no fusectl
// mount), and takes the mount away. The readers get ECONNABORTED, later ones
// ENOTCONN.
func (w *Wedge) Abort() error {
	err := w.unmount()
	select {
	case <-w.gone:
		// It had ended before; whether its mount was still there is all one.
		return nil
	case <-time.After(endGrace):
		if err == nil {
			err = errors.New("nothing happened")
		}
		return fmt.Errorf("aborting FUSE connection %d: %w", w.connection, err)
	}
}

// Close lets go of everything: it answers, aborts, and waits for the server to
// end. It may be called at any time and more than once.
func (w *Wedge) Close() error {
	w.Answer()
	err := w.Abort()
	select {
	case <-w.served:
	case <-time.After(endGrace):
		err = errors.Join(err, fmt.Errorf("the server of FUSE connection %d does not end", w.connection))
	}
	return err
}

// endGrace is how long the end of a connection may take to be noticed. It is a
// matter of microseconds; a busy machine gets more.
const endGrace = 5 * time.Second

// watch closes w.gone when the connection on fd ends. The library tells its
// file systems of that only once all their requests are done, and ours are not.
func (w *Wedge) watch(fd int) error {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watching the FUSE connection: %w", err)
	}
	go func() {
		defer close(w.gone)
		defer unix.Close(own)
		// No events asked for: only an error, the end, wakes it.
		poll := []unix.PollFd{{Fd: int32(own)}}
		for {
			if _, err := unix.Poll(poll, -1); err != unix.EINTR {
				return
			}
		}
	}()
	return nil
}

// unmount ends the connection and detaches the mount although it is in use.
func (w *Wedge) unmount() error { return unix.Unmount(w.dir, unix.MNT_FORCE|unix.MNT_DETACH) }

func (w *Wedge) count(d int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hanging += d
	close(w.changed)
	w.changed = make(chan struct{})
}

type wedgeRoot struct {
	fs.Inode
	w *Wedge
}

var _ fs.NodeOnAdder = (*wedgeRoot)(nil)

func (r *wedgeRoot) OnAdd(ctx context.Context) {
	file := r.NewPersistentInode(ctx, &wedgeFile{w: r.w}, fs.StableAttr{Mode: fuse.S_IFREG})
	r.AddChild(WedgeFile, file, false)
}

type wedgeFile struct {
	fs.Inode
	w *Wedge
}

var (
	_ fs.NodeOpener    = (*wedgeFile)(nil)
	_ fs.NodeReader    = (*wedgeFile)(nil)
	_ fs.NodeGetattrer = (*wedgeFile)(nil)
)

// Open asks for direct I/O: a reader through the page cache waits for the
// page, which a signal does end.
func (f *wedgeFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (f *wedgeFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o444
	return 0
}

// Read does not answer. It does not look at its context either, which ends when
// the reader is interrupted: an answer to the interrupt would free it.
func (f *wedgeFile) Read(_ context.Context, _ fs.FileHandle, _ []byte, _ int64) (fuse.ReadResult, syscall.Errno) {
	f.w.count(+1)
	defer f.w.count(-1)
	select {
	case <-f.w.answered:
		return fuse.ReadResultData(nil), 0
	case <-f.w.gone:
		return nil, syscall.ECONNABORTED // nobody hears it
	}
}
