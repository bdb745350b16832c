package e2e

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tokenLife is of the tokens that are signed anew.
const tokenLife = 10 * time.Minute

// issuedAt is a service account's token as the API server would have made it so long ago: its claims, with other times,
// signed by the cluster's own key, which lies in the files of the test's cluster.
func (s *space) issuedAt(token string, ago time.Duration) string {
	s.t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		s.t.Fatalf("no token: %.20s", token)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	s.must(err)
	claims := map[string]any{}
	s.must(json.Unmarshal(text, &claims))
	began := time.Now().Add(-ago)
	claims["iat"], claims["nbf"], claims["exp"] = began.Unix(), began.Unix(), began.Add(tokenLife).Unix()
	text, err = json.Marshal(claims)
	s.must(err)
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(text)
	key, err := os.ReadFile(filepath.Join(filepath.Dir(s.machine.Logs()), "pki", "sa.key"))
	s.must(err)
	block, _ := pem.Decode(key)
	if block == nil {
		s.t.Fatal("the cluster's signing key is no PEM")
	}
	private, err := x509.ParseECPrivateKey(block.Bytes)
	s.must(err)
	// ES256, RFC 7518, section 3.4.
	sum := sha256.Sum256([]byte(signed))
	r, t, err := ecdsa.Sign(rand.Reader, private, sum[:])
	s.must(err)
	signature := append(r.FillBytes(make([]byte, 32)), t.FillBytes(make([]byte, 32))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}
