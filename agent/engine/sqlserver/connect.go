package sqlserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"
)

const (
	// dialPatience bounds the making of a TCP connection.
	dialPatience = 2 * time.Second
	// loginPatience bounds everything until a connection can be used.
	loginPatience = 4 * time.Second
	// appName is how the agent shows in sys.dm_exec_sessions.
	appName = "witness-agent"
)

// connector makes connections. The driver keeps to a context while it dials, but not while it logs in, and a server
// that hangs takes connections without answering; so the connection below is cut at the deadline.
type connector struct {
	cfg     Config
	address string
}

var _ driver.Connector = connector{}

// Driver is asked for by database/sql; nothing uses it.
func (c connector) Driver() driver.Driver { return &mssql.Driver{} }

// Connect makes a connection that is logged in.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, loginPatience)
	defer cancel()
	params, err := c.params()
	if err != nil {
		return nil, err
	}
	d := &dialer{host: params.Host, mark: c.cfg.SocketMark}
	inner := mssql.NewConnectorConfig(params)
	inner.Dialer = d
	stop := context.AfterFunc(ctx, d.cut)
	got, err := inner.Connect(ctx)
	if err != nil {
		stop()
		d.close()
		if cause := ctx.Err(); cause != nil {
			return nil, fmt.Errorf("log in to %s: %w: %w", c.address, cause, err)
		}
		return nil, fmt.Errorf("log in to %s: %w", c.address, err)
	}
	if !stop() {
		return nil, errors.Join(fmt.Errorf("log in to %s: %w", c.address, ctx.Err()), got.Close())
	}
	plain, ok := got.(*mssql.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver made a %T", got), got.Close())
	}
	return &conn{Conn: plain, raw: d.conn()}, nil
}

// params reads the password and the certificate anew: both are replaced while the agent runs.
func (c connector) params() (msdsn.Config, error) {
	host, portText, err := net.SplitHostPort(c.address)
	if err != nil {
		return msdsn.Config{}, fmt.Errorf("address of the SQL Server: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return msdsn.Config{}, fmt.Errorf("address of the SQL Server: %w", err)
	}
	password, err := c.cfg.password()
	if err != nil {
		return msdsn.Config{}, err
	}
	p := msdsn.Config{
		Host: host, Port: port, User: c.cfg.User, Password: password, Database: "master", AppName: appName,
		DialTimeout: dialPatience, Protocols: []string{"tcp"}, Encoding: msdsn.EncodeParameters{GuidConversion: false},
		// An attempt is repeated by whoever asked, who has read the state anew by then.
		DisableRetry: true,
	}
	switch c.cfg.Encrypt {
	case encryptStrict:
		p.Encryption = msdsn.EncryptionStrict
	case encryptFalse:
		p.Encryption = msdsn.EncryptionOff
	case encryptDisable:
		p.Encryption = msdsn.EncryptionDisabled
		return p, nil
	default:
		p.Encryption = msdsn.EncryptionRequired
	}
	p.TLSConfig, err = c.cfg.tls(host)
	return p, err
}

// tls is how the server proves who it is.
func (c Config) tls(host string) (*tls.Config, error) {
	config := &tls.Config{
		ServerName: host, MinVersion: tls.VersionTLS12,
		// SQL Server expects a TDS packet in one TLS record.
		DynamicRecordSizingDisabled: true,
	}
	if c.Certificate == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", c.Certificate)
	}
	return config, nil
}

// password is the login's password. No error of this package holds it.
func (c Config) password() (string, error) {
	switch {
	case c.PasswordFile != "":
		raw, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("read password_file: %w", err)
		}
		return strings.TrimRight(string(raw), "\r\n"), nil
	case c.PasswordEnv != "":
		password, ok := os.LookupEnv(c.PasswordEnv)
		if !ok {
			return "", fmt.Errorf("password_env: the environment has no %s", c.PasswordEnv)
		}
		return password, nil
	default:
		return "", nil
	}
}

// conn is the driver's connection, with what lies below it.
type conn struct {
	*mssql.Conn
	raw net.Conn
}

// dialer remembers the connection that it made, so that it can be cut.
type dialer struct {
	host string
	mark uint32

	mu   sync.Mutex // Connect's goroutine dials, the context's cuts
	made net.Conn
	over bool
}

// HostName lets the driver leave the resolving of the name to DialContext, which keeps to its context.
func (d *dialer) HostName() string { return d.host }

// DialContext makes a connection.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	plain := net.Dialer{Control: markSocket(d.mark)}
	made, err := plain.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made = made
	if d.over {
		return made, made.SetDeadline(past())
	}
	return made, nil
}

// cut ends every wait on the connection.
func (d *dialer) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.made != nil {
		//nolint:errcheck // it fails only on a connection that is closed already, which nobody waits on
		d.made.SetDeadline(past())
	}
}

func (d *dialer) conn() net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made
}

func (d *dialer) close() {
	if made := d.conn(); made != nil {
		//nolint:errcheck // the driver may have closed it
		made.Close()
	}
}
