package docker

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"linkspan/container"
)

// TestLinger: who sends a body that is too large, slowly, and reads only then, reads the
// refusal, whether it said how much would come or not.
func TestLinger(t *testing.T) {
	h, _ := testDoor(testContainer(1, "web", container.Running))
	path := serveUnix(t, h)
	for name, head := range map[string]string{
		"told":    fmt.Sprintf("Content-Length: %d\r\n\r\n", 3*maxJSON),
		"chunked": "Transfer-Encoding: chunked\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			fmt.Fprintf(conn, "POST /containers/create HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n%s", head)
			third := make([]byte, maxJSON)
			for i := range third {
				third[i] = ' '
			}
			for range 3 {
				if name == "chunked" {
					fmt.Fprintf(conn, "%x\r\n", len(third))
				}
				if _, err := conn.Write(third); err != nil {
					t.Fatalf("the server does not read on: %v", err)
				}
				if name == "chunked" {
					io.WriteString(conn, "\r\n")
				}
				time.Sleep(400 * time.Millisecond)
			}
			if name == "chunked" {
				io.WriteString(conn, "0\r\n\r\n")
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s, %v", resp.Status, err)
			}
		})
	}
}
