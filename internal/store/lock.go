package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jimu-ai/jimu"
)

// folderLock holds a data folder for this process. The system drops it when
// the process ends, however it ends.
type folderLock struct{ f *os.File }

// lockFolder takes the folder, or says who has it.
func lockFolder(data string) (*folderLock, error) {
	f, err := os.OpenFile(filepath.Join(data, "lock"), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the data folder
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the data folder: %w", err)
	}
	free, err := tryLock(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking the data folder: %w", err), f.Close())
	}
	if !free {
		var pid [20]byte
		n, _ := f.Read(pid[:]) // only for the message
		return nil, errors.Join(jimu.Errorf(jimu.Conflict,
			"the data folder %s is in use by another jimu (process %s): stop that one, or start this one with another --data",
			data, strings.TrimSpace(string(pid[:n]))), f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("writing the lock of the data folder: %w", err), f.Close())
	}
	return &folderLock{f}, nil
}

func (l *folderLock) release() error {
	if l == nil || l.f == nil {
		return nil
	}
	return l.f.Close()
}
