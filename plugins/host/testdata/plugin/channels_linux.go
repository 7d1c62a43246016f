package main

import (
	"context"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locker-project/locker/plugins"
)

// socket tries to make a socket.
func socket(domain, kind, protocol int) attempt {
	return func(context.Context, *Targets, plugins.AppEnv) error {
		fd, err := unix.Socket(domain, kind, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// dial tries to connect with what Go offers.
func dial(network string, address func(*Targets) string) attempt {
	return func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		conn, err := net.DialTimeout(network, address(t), 2*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	}
}

var channelAttempts = map[string]attempt{
	"connect by TCP":                dial("tcp", func(t *Targets) string { return t.TCP }),
	"send by UDP":                   dial("udp", func(t *Targets) string { return t.UDP }),
	"connect to a unix socket":      dial("unix", func(t *Targets) string { return t.Unix }),
	"connect to an abstract socket": dial("unix", func(t *Targets) string { return t.Abstract }),
	"connect by MPTCP": func(_ context.Context, t *Targets, _ plugins.AppEnv) error {
		host, port, err := net.SplitHostPort(t.TCP)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, &unix.SockaddrInet4{Port: n, Addr: [4]byte(net.ParseIP(host).To4())})
	},
	"listen on TCP": func(context.Context, *Targets, plugins.AppEnv) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			l.Close()
		}
		return err
	},
	"listen on an abstract socket": func(context.Context, *Targets, plugins.AppEnv) error {
		l, err := net.Listen("unix", "@locker-hostile")
		if err != nil {
			return err
		}
		defer l.Close()
		conn, err := net.Dial("unix", "@locker-hostile")
		if err == nil {
			conn.Close()
		}
		return err
	},
	"netlink socket": socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
	"vsock socket":   socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	"packet socket":  socket(unix.AF_PACKET, unix.SOCK_RAW, 0),
	"crypto socket":  socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
}
