package replica

import (
	"reflect"
	"unsafe"
)

// What tests outside of the package need of its inside.
type (
	Disk     = disk
	DiskFile = diskFile
	Rules    = rules
)

// On returns c with another disk.
func (c Config) On(d Disk) Config {
	c.disk = d
	return c
}

// Without returns c with some rules switched off.
func (c Config) Without(r Rules) Config {
	c.without = r
	return c
}

// Small returns c with compaction as a device has it that writes much.
func (c Config) Small() Config {
	c.tune = tuning{every: 5, spare: 2, wait: 3, fan: 3, large: 1 << 20, batch: 1 << 20, lines: 1 << 20, frames: 1 << 20, memory: 1 << 20}
	return c
}

// RuleNames are the names of all rules that can be switched off.
func RuleNames() (names []string) {
	for i := range reflect.TypeFor[rules]().NumField() {
		names = append(names, reflect.TypeFor[rules]().Field(i).Name)
	}
	return names
}

// Off is all rules but one. The field is found by its name.
func Off(name string) (r Rules) {
	f := reflect.ValueOf(&r).Elem().FieldByName(name)
	*(*bool)(unsafe.Pointer(f.UnsafeAddr())) = true
	return r
}
