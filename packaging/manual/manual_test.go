package manual_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/internal/golden"

	"github.com/spf13/cobra"

	"linkspan/packaging/manual"
)

var source = manual.Source{Version: "1.2.3", Title: "Linkspan"}

func tree() *cobra.Command {
	root := &cobra.Command{Use: "ship [OPTIONS] COMMAND", Short: "Load and unload"}
	root.PersistentFlags().StringP("quay", "q", "north", "Which `quay` to use")
	load := &cobra.Command{
		Use: "load [OPTIONS] BOX [BOX...]", Short: "Load boxes.", Example: ".hidden -f 'a'\nship load box",
		Long: "Load boxes, one by one.\n.SH is no section here; C:\\boxes is a path.\n\n    ship load ~/box\n\nThe last word.",
		Run:  func(*cobra.Command, []string) {},
	}
	load.Flags().BoolP("force", "f", false, "Do not ask\nand do it")
	load.Flags().Int("crane", 3, "Number of the crane")
	load.Flags().String("secret", "", "")
	_ = load.Flags().MarkHidden("secret")
	hidden := &cobra.Command{Use: "hidden", Hidden: true, Run: load.Run}
	root.AddCommand(load, hidden)
	return root
}

func TestPages(t *testing.T) {
	err := manual.Walk(tree(), func(c *cobra.Command) error {
		var b bytes.Buffer
		if err := manual.Page(&b, source, c); err != nil {
			return err
		}
		page(t, manual.Name(c)+".1", b.Bytes())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := manual.Plain(&b, source, "ship-keeper", "8", "Keep the ship", "Usage:\n  'quoted' -x\n.dot\n"); err != nil {
		t.Fatal(err)
	}
	page(t, "ship-keeper.8", b.Bytes())
}

func page(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	golden.Compare(t, path, string(got))
	lint(t, path)
}

// lint has groff complain, where there is one.
func lint(t *testing.T, path string) {
	t.Helper()
	groff, err := exec.LookPath("groff")
	if err != nil {
		return
	}
	out, err := exec.Command(groff, "-man", "-ww", "-z", "-Tutf8", path).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff says %v\n%s", err, out)
	}
	shown, err := exec.Command(groff, "-man", "-Tascii", "-P-cbou", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, "load.1") {
		for _, want := range []string{"-f, --force", "--crane int", "(default 3)", `C:\boxes`, ".SH is no section", ".hidden -f 'a'", "-q, --quay quay"} {
			if !strings.Contains(string(shown), want) {
				t.Errorf("%s shows no %q:\n%s", path, want, shown)
			}
		}
	}
}

func TestWalkSkipsTheHidden(t *testing.T) {
	var names []string
	_ = manual.Walk(tree(), func(c *cobra.Command) error { names = append(names, manual.Name(c)); return nil })
	if got := strings.Join(names, " "); got != "ship ship-load" {
		t.Errorf("walked %s", got)
	}
}
