package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/docker/docker/api/types/image"
)

// Import makes an image that holds one static binary, as /<its file name>, and
// nothing else.
func (d *Docker) Import(ctx context.Context, ref, binary string) error {
	fs, err := imageOf(binary)
	if err != nil {
		return err
	}
	body, err := d.client.ImageImport(ctx, image.ImportSource{Source: fs, SourceName: "-"}, ref, image.ImportOptions{})
	if err != nil {
		return fmt.Errorf("importing an image: %w", err)
	}
	defer body.Close()
	// The image is there at the end of the answer, and errors are in it.
	for answer := json.NewDecoder(body); ; {
		var message struct{ Error string }
		switch err := answer.Decode(&message); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("importing an image: %w", err)
		case message.Error != "":
			return fmt.Errorf("importing an image: %s", message.Error)
		}
	}
}

// imageOf is the image's root as a tar archive.
func imageOf(binary string) (io.Reader, error) {
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: filepath.Base(binary), Mode: 0o755, Size: int64(len(data))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	return &b, w.Close()
}
