package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// connect opens a connection to the server that the environment names, with TLS if it names a CA.
func connect() (*grpc.ClientConn, error) {
	server := os.Getenv("SAYSO_SERVER")
	if server == "" {
		server = "127.0.0.1:50051"
	}
	security := insecure.NewCredentials()
	ca, credential := os.Getenv("SAYSO_CA"), os.Getenv("SAYSO_CREDENTIAL")
	if ca != "" {
		var err error
		if security, err = credentials.NewClientTLSFromFile(ca, ""); err != nil {
			return nil, err
		}
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		// A connection whose other end is gone is noticed within 15 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// Spread calls over all servers that the name resolves to.
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
	}
	if credential != "" {
		if ca == "" && !isLoopback(server) {
			return nil, fmt.Errorf("a credential would go to %s in plaintext; set SAYSO_CA", server)
		}
		options = append(options, grpc.WithPerRPCCredentials(apiKey(credential)))
	}
	return grpc.NewClient(server, options...)
}

func isLoopback(server string) bool {
	host, _, err := net.SplitHostPort(server)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// apiKey shows a key, or a token, with every call.
type apiKey string

func (key apiKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(key)}, nil
}

// RequireTransportSecurity is false because connect allows plaintext on this machine.
func (apiKey) RequireTransportSecurity() bool { return false }
