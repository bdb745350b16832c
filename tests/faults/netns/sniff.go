package netns

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Sniffer counts the IPv4 packets from or to Range that pass a network device of this process's namespace.
type Sniffer struct {
	fd    int
	seen  atomic.Int64
	done  chan struct{}
	ended atomic.Bool
}

// Sniff listens on a device, or on all of them when `device` is empty.
//
// # Errors
// Without the right to open a packet socket.
func Sniff(device string) (*Sniffer, error) {
	// In network byte order, as the kernel wants it.
	ipv4 := int(binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, ipv4)
	if err != nil {
		return nil, fmt.Errorf("can't open a packet socket: %w", err)
	}
	s := &Sniffer{fd: fd, done: make(chan struct{})}
	if device != "" {
		link, err := net.InterfaceByName(device)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(ipv4), Ifindex: link.Index})
		}
		if err != nil {
			return nil, fmt.Errorf("can't listen on %s: %w", device, err)
		}
	}
	// A bounded wait in recvfrom, so that the loop sees its end.
	wait := unix.NsecToTimeval(int64(50 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, err
	}
	go s.run()
	return s, nil
}

func (s *Sniffer) run() {
	defer close(s.done)
	packet := make([]byte, 64)
	for !s.ended.Load() {
		n, _, err := unix.Recvfrom(s.fd, packet, 0)
		if err == nil && ofRange(packet[:n]) {
			s.seen.Add(1)
		}
	}
}

// ofRange looks at the addresses of an IPv4 header.
func ofRange(packet []byte) bool {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return false
	}
	source := netip.AddrFrom4([4]byte(packet[12:16]))
	destination := netip.AddrFrom4([4]byte(packet[16:20]))
	return Range.Contains(source) || Range.Contains(destination)
}

// Seen is the number of packets so far.
func (s *Sniffer) Seen() int64 { return s.seen.Load() }

// Close ends the listening.
func (s *Sniffer) Close() error {
	if s.ended.Swap(true) {
		return nil
	}
	<-s.done
	return unix.Close(s.fd)
}

// DefaultDevice is the device of this namespace's default route, or "" when there is none.
func DefaultDevice() (string, error) {
	table, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 7 && fields[1] == "00000000" && fields[7] == "00000000" {
			return fields[0], nil
		}
	}
	return "", nil
}
