package cluster

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// sniffer counts the IPv4 packets from or to a range that pass a device.
type sniffer struct {
	seen atomic.Int64
	end  func()
}

// sniff listens on a device until the test ends or `end` is called.
func sniff(t *testing.T, device string, of netip.Prefix) *sniffer {
	t.Helper()
	link, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	protocol := binary.NativeEndian.Uint16([]byte{syscall.ETH_P_ALL >> 8, syscall.ETH_P_ALL & 0xff})
	socket, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(socket, &syscall.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Index}); err != nil {
		t.Fatal(err)
	}
	// A bounded wait, so that the loop sees its end.
	wait := syscall.Timeval{Usec: 50_000}
	if err := syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	s := &sniffer{}
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 64)
		for !over.Load() {
			n, _, err := syscall.Recvfrom(socket, packet, 0)
			if err != nil || n < 20 || packet[0]>>4 != 4 {
				continue
			}
			from, to := netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
			if of.Contains(from) || of.Contains(to) {
				s.seen.Add(1)
			}
		}
		syscall.Close(socket)
	}()
	s.end = func() {
		if !over.Swap(true) {
			<-done
		}
	}
	t.Cleanup(s.end)
	return s
}

// wayOut is the device of the machine's default route; empty without one, when nothing can leave at all.
func wayOut(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/net/route")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 7 && fields[1] == "00000000" && fields[7] == "00000000" {
			return fields[0]
		}
	}
	return ""
}
