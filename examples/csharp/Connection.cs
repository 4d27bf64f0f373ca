using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Grpc.Net.Client.Configuration;

/// <summary>A channel to the server that the environment names, and the headers of every call.</summary>
sealed class Connection : IDisposable
{
    public GrpcChannel Channel { get; }
    public Metadata Headers { get; }

    private Connection(GrpcChannel channel, Metadata headers) => (Channel, Headers) = (channel, headers);

    public static Connection Open()
    {
        string server = Environment.GetEnvironmentVariable("SAYSO_SERVER") ?? "127.0.0.1:50051";
        string? ca = Environment.GetEnvironmentVariable("SAYSO_CA");
        string? credential = Environment.GetEnvironmentVariable("SAYSO_CREDENTIAL");
        if (credential != null && ca == null && !IsLoopback(server))
        {
            throw new InvalidOperationException($"a credential would go to {server} in plaintext; set SAYSO_CA");
        }
        var handler = new SocketsHttpHandler
        {
            // A connection whose other end is gone is noticed within 15 s.
            KeepAlivePingDelay = TimeSpan.FromSeconds(10),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(5),
        };
        if (ca != null)
        {
            handler.SslOptions = new SslClientAuthenticationOptions { CertificateChainPolicy = Trust(ca) };
        }
        var options = new GrpcChannelOptions
        {
            HttpHandler = handler,
            Credentials = ca == null ? ChannelCredentials.Insecure : ChannelCredentials.SecureSsl,
            // Spread calls over all servers that the name resolves to.
            ServiceConfig = new ServiceConfig { LoadBalancingConfigs = { new RoundRobinConfig() } },
        };
        var headers = new Metadata();
        if (credential != null)
        {
            headers.Add("authorization", $"Bearer {credential}");
        }
        return new Connection(GrpcChannel.ForAddress($"dns:///{server}", options), headers);
    }

    public void Dispose() => Channel.Dispose();

    private static X509ChainPolicy Trust(string ca)
    {
        var policy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck, // an authority of one's own rarely publishes a list
        };
        policy.CustomTrustStore.ImportFromPemFile(ca);
        return policy;
    }

    private static bool IsLoopback(string server) =>
        server.StartsWith("localhost:") || server.StartsWith("127.0.0.1:");
}
