// Enrolls a speaker, verifies a recording, or verifies a call while it happens.
//
//	./example enroll SPEAKER FILE      exit status 0: the speech was added
//	./example verify SPEAKER FILE      exit status 0: the voice was accepted
//	./example stream SPEAKER FILE.wav  the same, from a telephone call of mu-law
//
// Exit status 1 is the other answer, 2 an error. See README.md for the environment.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	saysov1 "github.com/sayso-voice/sayso/examples/go/sayso/v1"
)

//go:generate ./generate.sh

const (
	frameBytes    = 160 // 20 ms of mu-law at 8 kHz
	frameDuration = 20 * time.Millisecond
	timeout       = 30 * time.Second
)

type command func(client saysov1.VerificationServiceClient, speakerID, path string) (bool, error)

var commands = map[string]command{"enroll": enroll, "verify": verify, "stream": stream}

func main() {
	if len(os.Args) != 4 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: example enroll|verify|stream SPEAKER FILE")
		os.Exit(2)
	}
	succeeded, err := run(commands[os.Args[1]], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, describe(err))
		os.Exit(2)
	}
	if !succeeded {
		os.Exit(1)
	}
}

func run(command command, speakerID, path string) (bool, error) {
	connection, err := connect()
	if err != nil {
		return false, err
	}
	defer connection.Close()
	return command(saysov1.NewVerificationServiceClient(connection), speakerID, path)
}

func enroll(client saysov1.VerificationServiceClient, speakerID, path string) (bool, error) {
	audio, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	enrolled, err := client.Enroll(ctx, &saysov1.EnrollRequest{
		Config: &saysov1.EnrollConfig{
			SpeakerId:   speakerID,
			AudioConfig: &saysov1.AudioConfig{Encoding: saysov1.AudioEncoding_AUDIO_ENCODING_FILE},
		},
		Audio: audio,
	})
	if err != nil {
		return false, err
	}
	fmt.Printf("%.1f s: %s\n", enrolled.GetProgress().GetNetSpeechS(), enrolled.GetExplanation())
	return enrolled.GetStored(), nil
}

func verify(client saysov1.VerificationServiceClient, speakerID, path string) (bool, error) {
	audio, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	verified, err := client.Verify(ctx, &saysov1.VerifyRequest{
		SpeakerId:   speakerID,
		AudioConfig: &saysov1.AudioConfig{Encoding: saysov1.AudioEncoding_AUDIO_ENCODING_FILE},
		Audio:       audio,
	})
	if err != nil {
		return false, err
	}
	printDecision(verified.GetDecision())
	fmt.Println(verified.GetDecision().GetExplanation())
	return isAccepted(verified.GetDecision()), nil
}

func stream(client saysov1.VerificationServiceClient, speakerID, path string) (bool, error) {
	samples, err := readMulaw(path)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // also stops sendFrames
	call, err := client.StreamingVerify(ctx)
	if err != nil {
		return false, err
	}
	config := &saysov1.StreamingVerifyConfig{
		SpeakerId: speakerID,
		AudioConfig: &saysov1.AudioConfig{
			Encoding:        saysov1.AudioEncoding_AUDIO_ENCODING_MULAW,
			SampleRateHertz: proto.Uint32(8000),
		},
		// Decide as soon as the evidence is enough, by the server's error rates.
		Policy:         &saysov1.DecisionPolicy{Sequential: &saysov1.SequentialTest{}},
		StopAtDecision: true,
	}
	first := &saysov1.StreamingVerifyRequest{Payload: &saysov1.StreamingVerifyRequest_Config{Config: config}}
	if err := call.Send(first); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	go sendFrames(call, samples)
	accepted := false
	for {
		response, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return accepted, nil
		}
		if err != nil {
			return false, err
		}
		printDecision(response.GetDecision())
		accepted = isAccepted(response.GetDecision())
	}
}

// sendFrames sends audio as a call brings it, a frame every 20 ms, until the server has ended the stream.
func sendFrames(call saysov1.VerificationService_StreamingVerifyClient, samples []byte) {
	ticker := time.NewTicker(frameDuration)
	defer ticker.Stop()
	for len(samples) > 0 {
		size := min(frameBytes, len(samples))
		audio := &saysov1.StreamingVerifyRequest_Audio{Audio: samples[:size]}
		if call.Send(&saysov1.StreamingVerifyRequest{Payload: audio}) != nil {
			return // Recv says why
		}
		samples = samples[size:]
		<-ticker.C
	}
	_ = call.CloseSend()
}

func isAccepted(decision *saysov1.Decision) bool {
	return decision.GetOutcome() == saysov1.Outcome_OUTCOME_ACCEPTED
}

func printDecision(decision *saysov1.Decision) {
	outcome := strings.TrimPrefix(decision.GetOutcome().String(), "OUTCOME_")
	band := strings.TrimPrefix(decision.GetBand().String(), "BAND_")
	fmt.Printf("%.1f s: %s %s\n", decision.GetQuality().GetNetSpeechS(), outcome, band)
}

// describe puts the status and the stable reason of an error of Sayso, such as SPEAKER_LOCKED, before its
// message.
func describe(err error) string {
	answered, isStatus := status.FromError(err)
	if !isStatus {
		return err.Error()
	}
	names := answered.Code().String()
	for _, detail := range answered.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			names += " " + info.GetReason()
		}
	}
	return fmt.Sprintf("%s: %s", names, answered.Message())
}
