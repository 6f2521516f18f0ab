package sqlserver

import (
	"fmt"
	"strings"
)

// sameName compares names of databases as SQL Server does by default, without regard to case.
func sameName(a string) func(string) bool {
	return func(b string) bool { return strings.EqualFold(a, b) }
}

// DialAddress is the host:port behind the address of an endpoint (TCP://host:port).
func DialAddress(endpoint string) (string, error) {
	const scheme = "TCP://"
	if len(endpoint) < len(scheme) || !strings.EqualFold(endpoint[:len(scheme)], scheme) {
		return "", fmt.Errorf("%q is not an endpoint's address, TCP://host:port", endpoint)
	}
	address := endpoint[len(scheme):]
	if err := checkAddress(address); err != nil {
		return "", fmt.Errorf("%q is not an endpoint's address, TCP://host:port: %w", endpoint, err)
	}
	return address, nil
}
