// Enrolls a speaker, verifies a recording, or verifies a call while it happens.
//
//   dotnet run enroll SPEAKER FILE      exit status 0: the speech was added
//   dotnet run verify SPEAKER FILE      exit status 0: the voice was accepted
//   dotnet run stream SPEAKER FILE.wav  the same, from a telephone call of mu-law
//
// Exit status 1 is the other answer, 2 an error. See README.md for the environment.

using System.Globalization;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Sayso.V1;

const int FrameBytes = 160; // 20 ms of mu-law at 8 kHz
TimeSpan frameDuration = TimeSpan.FromMilliseconds(20);

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
if (args.Length != 3)
{
    Console.Error.WriteLine("usage: dotnet run enroll|verify|stream SPEAKER FILE");
    return 2;
}
try
{
    using var connection = Connection.Open();
    var client = new VerificationService.VerificationServiceClient(connection.Channel);
    bool succeeded = args[0] switch
    {
        "enroll" => await EnrollAsync(args[1], args[2]),
        "verify" => await VerifyAsync(args[1], args[2]),
        "stream" => await StreamAsync(args[1], args[2]),
        _ => throw new ArgumentException($"{args[0]}: is none of enroll, verify, stream"),
    };
    return succeeded ? 0 : 1;

    async Task<bool> EnrollAsync(string speakerId, string path)
    {
        var request = new EnrollRequest
        {
            Config = new EnrollConfig
            {
                SpeakerId = speakerId,
                AudioConfig = new AudioConfig { Encoding = AudioEncoding.File },
            },
            Audio = ByteString.CopyFrom(await File.ReadAllBytesAsync(path)),
        };
        var enrolled = await client.EnrollAsync(request, connection.Headers, Deadline());
        Console.WriteLine($"{enrolled.Progress.NetSpeechS:F1} s: {enrolled.Explanation}");
        return enrolled.Stored;
    }

    async Task<bool> VerifyAsync(string speakerId, string path)
    {
        var request = new VerifyRequest
        {
            SpeakerId = speakerId,
            AudioConfig = new AudioConfig { Encoding = AudioEncoding.File },
            Audio = ByteString.CopyFrom(await File.ReadAllBytesAsync(path)),
        };
        var verified = await client.VerifyAsync(request, connection.Headers, Deadline());
        Print(verified.Decision);
        Console.WriteLine(verified.Decision.Explanation);
        return verified.Decision.Outcome == Outcome.Accepted;
    }

    async Task<bool> StreamAsync(string speakerId, string path)
    {
        byte[] samples = Wav.ReadMulaw(path);
        using var call = client.StreamingVerify(connection.Headers);
        var config = new StreamingVerifyConfig
        {
            SpeakerId = speakerId,
            AudioConfig = new AudioConfig { Encoding = AudioEncoding.Mulaw, SampleRateHertz = 8000 },
            // Decide as soon as the evidence is enough, by the server's error rates.
            Policy = new DecisionPolicy { Sequential = new SequentialTest() },
            StopAtDecision = true,
        };
        await call.RequestStream.WriteAsync(new StreamingVerifyRequest { Config = config });
        var sending = SendFramesAsync(call.RequestStream, samples);
        var outcome = Outcome.Unspecified;
        await foreach (var response in call.ResponseStream.ReadAllAsync())
        {
            Print(response.Decision);
            outcome = response.Decision.Outcome;
        }
        await sending;
        return outcome == Outcome.Accepted;
    }
}
catch (RpcException error)
{
    // The stable reason of an error of Sayso, such as SPEAKER_LOCKED; null if another program answered.
    string? reason = error.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason;
    Console.Error.WriteLine($"{error.StatusCode} {reason}: {error.Status.Detail}");
    return 2;
}
catch (Exception error) when (error is IOException or ArgumentException or InvalidOperationException)
{
    Console.Error.WriteLine(error.Message);
    return 2;
}

// Sends audio as a call brings it, a frame every 20 ms, until the server has ended the stream.
async Task SendFramesAsync(IClientStreamWriter<StreamingVerifyRequest> requests, byte[] samples)
{
    using var timer = new PeriodicTimer(frameDuration);
    try
    {
        for (int start = 0; start < samples.Length; start += FrameBytes)
        {
            var audio = ByteString.CopyFrom(samples, start, Math.Min(FrameBytes, samples.Length - start));
            await requests.WriteAsync(new StreamingVerifyRequest { Audio = audio });
            await timer.WaitForNextTickAsync();
        }
        await requests.CompleteAsync();
    }
    catch (Exception error) when (error is RpcException or InvalidOperationException)
    {
        // The stream has ended; the responses say how.
    }
}

static DateTime Deadline() => DateTime.UtcNow.AddSeconds(30);

static void Print(Decision decision)
{
    // Enums are printed as C# spells them: Accepted, Strong.
    Console.WriteLine($"{decision.Quality?.NetSpeechS ?? 0:F1} s: {decision.Outcome} {decision.Band}");
}
