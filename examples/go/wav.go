package main

import (
	"encoding/binary"
	"fmt"
	"os"
)

const mulaw = 7

// readMulaw returns the samples of a WAV file that holds G.711 mu-law at 8 kHz with one channel, as a
// telephone line sends them.
func readMulaw(path string) ([]byte, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	suitable := false
	for start := 12; start+8 <= len(file); {
		size := int(binary.LittleEndian.Uint32(file[start+4:]))
		chunk := file[start+8 : min(start+8+size, len(file))]
		switch string(file[start : start+4]) {
		case "fmt ":
			suitable = len(chunk) >= 16 &&
				binary.LittleEndian.Uint16(chunk) == mulaw &&
				binary.LittleEndian.Uint16(chunk[2:]) == 1 &&
				binary.LittleEndian.Uint32(chunk[4:]) == 8000
		case "data":
			if suitable {
				return chunk, nil
			}
		}
		start += 8 + size + size%2 // chunks begin at even offsets
	}
	return nil, fmt.Errorf("%s: is not mu-law at 8 kHz; ffmpeg -i %s -ac 1 -ar 8000 -acodec pcm_mulaw call.wav", path, path)
}
