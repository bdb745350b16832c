package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// imageUser is the user and group of every image's process.
const imageUser = "65532:65532"

const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// blob is one content-addressed part of an image.
type blob struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	content     []byte
}

func newBlob(mediaType string, content []byte) blob {
	sum := sha256.Sum256(content)
	return blob{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: len(content), content: content}
}

// Image writes an OCI image as a tar: nothing but one static binary at the root, which is the entrypoint and runs as
// user 65532. The same binary and name give the same bytes.
//
// # Errors
// When `name` has no tag, or a file can't be read or written. `out` is then not there or as it was.
func Image(name, binary, out string) error {
	if i := strings.LastIndex(name, ":"); i < 1 || strings.Contains(name[i:], "/") {
		return fmt.Errorf("image name %q has no tag: give it as HOST/NAME:TAG", name)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("can't read the image's binary: %w", err)
	}
	parts, err := imageParts(name, "/"+filepath.Base(binary), program)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(out), ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already when all went well
	archive := tar.NewWriter(temporary)
	for _, part := range parts {
		if err := addFile(archive, part.name, 0o644, part.content); err != nil {
			temporary.Close()
			return err
		}
	}
	if err := archive.Close(); err != nil {
		temporary.Close()
		return err
	}
	if err := temporary.Close(); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), out)
}

// imageFile is a file of the archive.
type imageFile struct {
	name    string
	content []byte
}

// imageParts gives the files of an image in their order.
func imageParts(name, entrypoint string, program []byte) ([]imageFile, error) {
	var layerTar bytes.Buffer
	writer := tar.NewWriter(&layerTar)
	if err := addFile(writer, strings.TrimPrefix(path.Clean(entrypoint), "/"), 0o755, program); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	layer := newBlob(mediaLayer, layerTar.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": []string{entrypoint}, "User": imageUser, "WorkingDir": "/"},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{layer.Digest}},
		"history":      []map[string]any{{"created_by": "sidegrid tests/cluster"}},
	})
	if err != nil {
		return nil, err
	}
	configBlob := newBlob(mediaConfig, config)
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": mediaManifest, "config": configBlob, "layers": []blob{layer},
	})
	if err != nil {
		return nil, err
	}
	manifestBlob := newBlob(mediaManifest, manifest)
	manifestBlob.Annotations = map[string]string{
		"io.containerd.image.name":          name,
		"org.opencontainers.image.ref.name": name[strings.LastIndex(name, ":")+1:],
	}
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": mediaIndex, "manifests": []blob{manifestBlob},
	})
	if err != nil {
		return nil, err
	}
	files := []imageFile{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", index},
	}
	for _, b := range []blob{configBlob, manifestBlob, layer} {
		files = append(files, imageFile{"blobs/" + strings.Replace(b.Digest, ":", "/", 1), b.content})
	}
	return files, nil
}

// addFile adds a file that belongs to root and has no time, so that nothing but its content counts.
func addFile(archive *tar.Writer, name string, mode int64, content []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), Format: tar.FormatUSTAR}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}
