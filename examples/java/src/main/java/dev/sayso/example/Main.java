package dev.sayso.example;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import dev.sayso.v1.AudioConfig;
import dev.sayso.v1.AudioEncoding;
import dev.sayso.v1.Decision;
import dev.sayso.v1.DecisionPolicy;
import dev.sayso.v1.EnrollConfig;
import dev.sayso.v1.EnrollRequest;
import dev.sayso.v1.EnrollResponse;
import dev.sayso.v1.Outcome;
import dev.sayso.v1.SequentialTest;
import dev.sayso.v1.StreamingVerifyConfig;
import dev.sayso.v1.StreamingVerifyRequest;
import dev.sayso.v1.StreamingVerifyResponse;
import dev.sayso.v1.VerificationServiceGrpc;
import dev.sayso.v1.VerifyRequest;
import io.grpc.CallCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/**
 * Enrolls a speaker, verifies a recording, or verifies a call while it happens.
 *
 * <pre>
 * java -jar target/sayso-example.jar enroll SPEAKER FILE      exit status 0: the speech was added
 * java -jar target/sayso-example.jar verify SPEAKER FILE      exit status 0: the voice was accepted
 * java -jar target/sayso-example.jar stream SPEAKER FILE.wav  the same, from a telephone call of mu-law
 * </pre>
 *
 * Exit status 1 is the other answer, 2 an error. See README.md for the environment.
 */
public final class Main {
  private static final int FRAME_BYTES = 160; // 20 ms of mu-law at 8 kHz
  private static final int FRAME_MS = 20;
  private static final int TIMEOUT_S = 30;
  private static final AudioConfig RECORDING =
      AudioConfig.newBuilder().setEncoding(AudioEncoding.AUDIO_ENCODING_FILE).build();

  private final ManagedChannel channel;
  private final CallCredentials credential;

  private Main(ManagedChannel channel, CallCredentials credential) {
    this.channel = channel;
    this.credential = credential;
  }

  public static void main(String[] arguments) throws InvalidProtocolBufferException {
    if (arguments.length != 3) {
      System.err.println("usage: sayso-example enroll|verify|stream SPEAKER FILE");
      System.exit(2);
    }
    try {
      System.exit(run(arguments[0], arguments[1], Path.of(arguments[2])) ? 0 : 1);
    } catch (StatusRuntimeException error) {
      System.err.println(describe(error));
    } catch (Exception error) {
      System.err.println(error.getMessage());
    }
    System.exit(2);
  }

  private static boolean run(String command, String speakerId, Path path) throws Exception {
    ManagedChannel channel = Connection.open(System.getenv());
    try {
      Main main = new Main(channel, Connection.credential(System.getenv()));
      return switch (command) {
        case "enroll" -> main.enroll(speakerId, path);
        case "verify" -> main.verify(speakerId, path);
        case "stream" -> main.stream(speakerId, path);
        default -> throw new IllegalArgumentException(command + ": is none of enroll, verify, stream");
      };
    } finally {
      channel.shutdownNow();
    }
  }

  private boolean enroll(String speakerId, Path path) throws IOException {
    EnrollConfig config =
        EnrollConfig.newBuilder().setSpeakerId(speakerId).setAudioConfig(RECORDING).build();
    EnrollResponse enrolled =
        blockingStub()
            .enroll(EnrollRequest.newBuilder().setConfig(config).setAudio(read(path)).build());
    double netSpeechS = enrolled.getProgress().getNetSpeechS();
    System.out.printf(Locale.ROOT, "%.1f s: %s%n", netSpeechS, enrolled.getExplanation());
    return enrolled.getStored();
  }

  private boolean verify(String speakerId, Path path) throws IOException {
    VerifyRequest request =
        VerifyRequest.newBuilder()
            .setSpeakerId(speakerId)
            .setAudioConfig(RECORDING)
            .setAudio(read(path))
            .build();
    Decision decision = blockingStub().verify(request).getDecision();
    print(decision);
    System.out.println(decision.getExplanation());
    return decision.getOutcome() == Outcome.OUTCOME_ACCEPTED;
  }

  private boolean stream(String speakerId, Path path) throws Exception {
    ByteBuffer samples = Wav.readMulaw(path);
    StreamingVerifyConfig config =
        StreamingVerifyConfig.newBuilder()
            .setSpeakerId(speakerId)
            .setAudioConfig(
                AudioConfig.newBuilder()
                    .setEncoding(AudioEncoding.AUDIO_ENCODING_MULAW)
                    .setSampleRateHertz(8000))
            // Decide as soon as the evidence is enough, by the server's error rates.
            .setPolicy(DecisionPolicy.newBuilder().setSequential(SequentialTest.getDefaultInstance()))
            .setStopAtDecision(true)
            .build();
    Decisions decisions = new Decisions();
    StreamObserver<StreamingVerifyRequest> requests =
        VerificationServiceGrpc.newStub(channel)
            .withCallCredentials(credential)
            .streamingVerify(decisions);
    requests.onNext(StreamingVerifyRequest.newBuilder().setConfig(config).build());
    sendFrames(requests, samples, decisions.last);
    try {
      Decision last = decisions.last.get();
      return last != null && last.getOutcome() == Outcome.OUTCOME_ACCEPTED;
    } catch (ExecutionException error) {
      throw (Exception) error.getCause();
    }
  }

  /** Sends audio as a call brings it, a frame every 20 ms, until the server has ended the stream. */
  private static void sendFrames(
      StreamObserver<StreamingVerifyRequest> requests,
      ByteBuffer samples,
      CompletableFuture<Decision> end)
      throws InterruptedException {
    while (samples.hasRemaining() && !end.isDone()) {
      ByteString frame =
          ByteString.copyFrom(samples, Math.min(FRAME_BYTES, samples.remaining()));
      requests.onNext(StreamingVerifyRequest.newBuilder().setAudio(frame).build());
      Thread.sleep(FRAME_MS);
    }
    if (!end.isDone()) {
      requests.onCompleted();
    }
  }

  /** Prints each decision as it comes; {@code last} completes when the server ends the stream. */
  private static final class Decisions implements StreamObserver<StreamingVerifyResponse> {
    final CompletableFuture<Decision> last = new CompletableFuture<>();
    private Decision latest;

    @Override
    public void onNext(StreamingVerifyResponse response) {
      latest = response.getDecision();
      print(latest);
    }

    @Override
    public void onError(Throwable error) {
      last.completeExceptionally(error);
    }

    @Override
    public void onCompleted() {
      last.complete(latest);
    }
  }

  private VerificationServiceGrpc.VerificationServiceBlockingStub blockingStub() {
    return VerificationServiceGrpc.newBlockingStub(channel)
        .withCallCredentials(credential)
        .withDeadlineAfter(TIMEOUT_S, TimeUnit.SECONDS);
  }

  private static ByteString read(Path path) throws IOException {
    return ByteString.copyFrom(Files.readAllBytes(path));
  }

  private static void print(Decision decision) {
    String outcome = decision.getOutcome().name().replaceFirst("^OUTCOME_", "");
    String band = decision.getBand().name().replaceFirst("^BAND_", "");
    double netSpeechS = decision.getQuality().getNetSpeechS();
    System.out.printf(Locale.ROOT, "%.1f s: %s %s%n", netSpeechS, outcome, band);
  }

  /**
   * Puts the status and the stable reason of an error of Sayso, such as SPEAKER_LOCKED, before its
   * message.
   */
  private static String describe(StatusRuntimeException error) throws InvalidProtocolBufferException {
    String names = error.getStatus().getCode().name();
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        names += " " + detail.unpack(ErrorInfo.class).getReason();
      }
    }
    return names + ": " + error.getStatus().getDescription();
  }
}
