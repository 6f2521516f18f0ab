// Package haproxy tests the configuration in deploy/haproxy with Debian's HAProxy, in front of databases that only
// tell their names and of the role endpoints that agents serve.
package haproxy
