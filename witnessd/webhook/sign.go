package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// secretPrefix begins a key that is written in base64, as the specification has it.
const secretPrefix = "whsec_"

// minKey is the shortest key, in bytes, that the specification allows.
const minKey = 24

// ReadKeys reads the keys that sign: "whsec_" and base64, or else the file's bytes as they are but for a line's end.
// Of several whsec_ keys, one to a line, each signs, so that a receiver can change from one to the next.
func ReadKeys(file string) ([][]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read secret_file: %w", err)
	}
	var keys [][]byte
	if bytes.HasPrefix(raw, []byte(secretPrefix)) {
		for word := range strings.FieldsSeq(string(raw)) {
			text, prefixed := strings.CutPrefix(word, secretPrefix)
			key, err := base64.StdEncoding.DecodeString(text)
			if err != nil || !prefixed {
				return nil, fmt.Errorf("read secret_file %s: a key is %s and base64, each on a line of its own", file, secretPrefix)
			}
			keys = append(keys, key)
		}
	} else {
		keys = [][]byte{bytes.TrimRight(raw, "\r\n")}
	}
	for _, key := range keys {
		if len(key) < minKey {
			return nil, fmt.Errorf("secret_file %s: a key of %d bytes, at least %d are needed; make one with: "+
				`printf "whsec_%%s" "$(head -c 32 /dev/urandom | base64)"`, file, len(key), minKey)
		}
	}
	return keys, nil
}

// sign is the value of webhook-signature.
func sign(keys [][]byte, id string, seconds int64, body []byte) (string, error) {
	if len(keys) == 0 {
		return "", errors.New("there is no key to sign with")
	}
	var all []string
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + strconv.FormatInt(seconds, 10) + "."))
		mac.Write(body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(all, " "), nil
}
