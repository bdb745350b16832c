package processes

import (
	"os"
	"os/exec"
	"testing"
)

func TestKindsAreToldApart(t *testing.T) {
	lines := map[string][]string{
		"member":     {"/sidegrid", "serve", "--member-of", "1"},
		"supervisor": {"/sidegrid", "serve"},
		"app":        {"/sessions"},
		"drain":      {"/sidegrid", "drain", "--timeout", "25s"},
		"pause":      {"/pause"},
		"none":       split(nil),
	}
	kinds := map[string]Kind{"member": Member, "supervisor": Supervisor, "app": App}
	for name, line := range lines {
		for kind, is := range kinds {
			if is(line) != (name == kind) {
				t.Errorf("%v taken for %s: %t", line, kind, is(line))
			}
		}
	}
}

func TestPodsAreToldApartByControlGroups(t *testing.T) {
	uid := "0b1c2d3e-0000-4000-8000-000000000001"
	for groups, of := range map[string]bool{
		"4:memory:/sgk0-node1/kubepods/burstable/pod" + uid + "/abc\n":                              true,
		"0::/kubepods.slice/kubepods-pod0b1c2d3e_0000_4000_8000_000000000001.slice/cri-abc.scope\n": true,
		"0::/kubepods/pod0b1c2d3e-0000-4000-8000-000000000002/abc\n":                                false,
		"0::/user.slice\n": false,
	} {
		if inPod(groups, uid) != of {
			t.Errorf("%q: %t", groups, !of)
		}
	}
	if inPod("0::/kubepods/podx\n", "") {
		t.Error("a pod without uid has every process")
	}
	if pid, err := OfPod(uid, func([]string) bool { return true }); err == nil {
		t.Errorf("no such pod has %d", pid)
	}
}

func TestStateOfLivingAndDead(t *testing.T) {
	if state := State(os.Getpid()); state == "" || state == "Z" {
		t.Errorf("this process is in state %q", state)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	if state := State(ended.Process.Pid); state != "" {
		t.Errorf("one that is gone is in state %q", state)
	}
}
