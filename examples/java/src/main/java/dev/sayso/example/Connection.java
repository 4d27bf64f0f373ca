package dev.sayso.example;

import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/** How to reach a server, from the environment: TLS if it names a CA, a key if it holds one. */
final class Connection {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private Connection() {}

  static ManagedChannel open(Map<String, String> environment) throws IOException {
    String server = environment.getOrDefault("SAYSO_SERVER", "127.0.0.1:50051");
    String ca = environment.get("SAYSO_CA");
    if (environment.containsKey("SAYSO_CREDENTIAL") && ca == null && !isLoopback(server)) {
      throw new IOException("a credential would go to " + server + " in plaintext; set SAYSO_CA");
    }
    ChannelCredentials security =
        ca == null
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build();
    return Grpc.newChannelBuilder(server, security)
        // A connection whose other end is gone is noticed within 15 s.
        .keepAliveTime(10, TimeUnit.SECONDS)
        .keepAliveTimeout(5, TimeUnit.SECONDS)
        // Spread calls over all servers that the name resolves to.
        .defaultLoadBalancingPolicy("round_robin")
        .build();
  }

  /** Shows the credential, if there is one, with every call; for {@code stub.withCallCredentials}. */
  static CallCredentials credential(Map<String, String> environment) {
    String credential = environment.get("SAYSO_CREDENTIAL");
    return new CallCredentials() {
      @Override
      public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier applier) {
        Metadata headers = new Metadata();
        if (credential != null) {
          headers.put(AUTHORIZATION, "Bearer " + credential);
        }
        applier.apply(headers);
      }
    };
  }

  private static boolean isLoopback(String server) {
    return server.startsWith("localhost:") || server.startsWith("127.0.0.1:");
  }
}
