package faults

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a cluster's certificate authority as the file registry keeps it.
type authority struct {
	Cluster     string `json:"cluster"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// authorityPath is where the authority of a registry file is.
func authorityPath(registry string) string { return registry + ".authority" }

func readAuthority(t *testing.T, registry string) authority {
	t.Helper()
	text, err := os.ReadFile(authorityPath(registry))
	if err != nil {
		t.Fatal(err)
	}
	var a authority
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a certificate for a member of the cluster `of`, signed by this authority, and gives the files that
// hold it and its key.
func (a authority) issue(t *testing.T, of, member string) (certificate, key string) {
	t.Helper()
	certificate, key, err := a.tryIssue(t.TempDir(), of, member)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func (a authority) tryIssue(dir, of, member string) (certificate, key string, err error) {
	signerBlock, _ := pem.Decode([]byte(a.Certificate))
	keyBlock, _ := pem.Decode([]byte(a.Key))
	if signerBlock == nil || keyBlock == nil {
		return "", "", errors.New("the authority is not PEM")
	}
	signer, err := x509.ParseCertificate(signerBlock.Bytes)
	if err != nil {
		return "", "", err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return "", "", err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	identity, err := url.Parse("sidegrid://" + of + "/" + member)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "a stranger"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:         []*url.URL{identity},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, signer, own.Public(), parsed.(crypto.Signer))
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return "", "", err
	}
	certificate, key = filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "leaf.key")
	return certificate, key, errors.Join(
		os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}
