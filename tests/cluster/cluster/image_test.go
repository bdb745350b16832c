package cluster

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestImageIsTheSameEachTime(t *testing.T) {
	folder := t.TempDir()
	binary := filepath.Join(folder, "program")
	if err := os.WriteFile(binary, []byte("not really one"), 0o755); err != nil {
		t.Fatal(err)
	}
	var images [2][]byte
	for i := range images {
		out := filepath.Join(folder, "image.tar")
		if err := Image("sidegrid.dev/program:1", binary, out); err != nil {
			t.Fatal(err)
		}
		images[i], _ = os.ReadFile(out)
		later := os.Chtimes(binary, time.Unix(1, 0), time.Unix(1, 0))
		if later != nil {
			t.Fatal(later)
		}
	}
	if len(images[0]) == 0 || !bytes.Equal(images[0], images[1]) {
		t.Error("two images of one binary differ")
	}
	var index struct{ Manifests []blob }
	files := untar(t, images[0])
	if err := json.Unmarshal(files["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	if name := index.Manifests[0].Annotations["io.containerd.image.name"]; name != "sidegrid.dev/program:1" {
		t.Errorf("the image is called %q", name)
	}
	for name, content := range files {
		if digest, is := strings.CutPrefix(name, "blobs/"); is {
			if got := newBlob("", content).Digest; got != strings.Replace(digest, "/", ":", 1) {
				t.Errorf("%s has the digest %s", name, got)
			}
		}
	}
}

func TestImageNeedsATag(t *testing.T) {
	for _, name := range []string{"", "program", ":1", "host:5000/program"} {
		if err := Image(name, "/proc/self/exe", filepath.Join(t.TempDir(), "out.tar")); err == nil {
			t.Errorf("%q was taken for a name with a tag", name)
		}
	}
}

func untar(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}
