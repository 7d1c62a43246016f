package remote

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// syncFolder has nothing to do: Windows flushes no folders, and orders the changes
// of names by itself.
func syncFolder(*os.Root, string) error { return nil }

// room is how many bytes are free for us, and used, where a folder lies.
func room(dir string) (free, used int64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var ours, total, all uint64
	if err := windows.GetDiskFreeSpaceEx(name, &ours, &total, &all); err != nil {
		return 0, 0, err
	}
	return int64(ours), int64(total - all), nil
}

// full says whether there is no room left.
func full(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) || errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

// gone says whether the disk went away.
func gone(err error) bool {
	return errors.Is(err, windows.ERROR_NOT_READY) || errors.Is(err, windows.ERROR_BAD_NETPATH) || errors.Is(err, windows.ERROR_DEV_NOT_EXIST) ||
		errors.Is(err, windows.ERROR_NETNAME_DELETED) || errors.Is(err, windows.ERROR_PATH_NOT_FOUND) || errors.Is(err, windows.ERROR_FILE_NOT_FOUND) ||
		errors.Is(err, windows.ERROR_DEVICE_NOT_CONNECTED)
}

// sharing says whether another program has the file open and so is in the way.
func sharing(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
}
