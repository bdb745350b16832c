package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// someMember is a member id that no incarnation has; the chance is one in 2^64.
const someMember = "00000000000000ab"

// leafLife is how long a test's leaf is valid.
const leafLife = time.Hour

// authority signs leaves, right ones and wrong ones.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	// cluster is the uid of its CacheCluster as leaves have it: 32 hexadecimal digits.
	cluster string
}

// authorityOf reads the authority of a CacheCluster out of its Secret, as only an administrator may.
func (s *space) authorityOf(name string) *authority {
	s.t.Helper()
	cluster, err := s.cacheCluster(s.ctx, name)
	s.must(err)
	var secret struct {
		Data map[string]string `json:"data"`
	}
	s.must(s.kube.Get(s.ctx, &secret, "secret", "authority-"+cluster.Metadata.UID, "--namespace="+operatorNamespace))
	certificate, err := x509.ParseCertificate(pemOf(secret.Data["ca.crt"]))
	s.must(err)
	key, err := parseKey(pemOf(secret.Data["ca.key"]))
	s.must(err)
	return &authority{certificate, key, strings.ReplaceAll(cluster.Metadata.UID, "-", "")}
}

// pemOf is the first block of a Secret's value; nothing when there is none, which no parser takes.
func pemOf(encoded string) []byte {
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	return block.Bytes
}

func parseKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	return nil, errors.New("the authority's key is none that is known here")
}

// strangeAuthority is one that nobody trusts, with the name of a right one.
func strangeAuthority(like *authority) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: like.certificate.Subject, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-leafLife), NotAfter: time.Now().Add(leafLife), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate, key, like.cluster}, err
}

// leaf signs one for a member of `cluster` in `pod`, which is right if the cluster is the authority's own.
func (a *authority) leaf(cluster, pod string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	identity, err := url.Parse(fmt.Sprintf("sidegrid://%s/%s/%s", cluster, someMember, pod))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "stranger"}, URIs: []*url.URL{identity},
		NotBefore: time.Now().Add(-leafLife), NotAfter: time.Now().Add(leafLife), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
