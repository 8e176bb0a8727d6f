package docker

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"linkspan/container"
	"linkspan/events"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// sdk is the newest Go SDK, whose types are stricter than JSON: addresses are
// netip, MAC addresses are parsed.
func sdk(t *testing.T, sock string, opts ...client.Opt) *client.Client {
	t.Helper()
	c, err := client.New(append([]client.Opt{client.WithHost("unix://" + sock)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestSDK: every answer is understood, at the oldest and the newest version
// that the SDK speaks with us.
func TestSDK(t *testing.T) {
	shop, sb := fullContainer(t)
	none := testContainer(2, "lonely", container.Running)
	none.HostConfig.NetworkMode = "none"
	f := newFakeContainers(shop, none, testContainer(3, "down", container.Exited))
	sock := serveUnix(t, New(testConfig(f, newFakeNetwork(sb))))
	for _, version := range []string{"1.40", "1.43", "1.47", ""} {
		t.Run("v"+version, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			var opts []client.Opt
			if version != "" {
				opts = append(opts, client.WithAPIVersion(version))
			}
			c := sdk(t, sock, opts...)
			list, err := c.ContainerList(ctx, client.ContainerListOptions{All: true})
			if err != nil || len(list.Items) != 3 {
				t.Fatalf("%v %v", list, err)
			}
			for _, name := range []string{"shop", "lonely", "down"} {
				in, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
				if err != nil || in.Container.Name != "/"+name {
					t.Fatalf("%s: %v %v", name, in, err)
				}
				if name == "shop" {
					ep := in.Container.NetworkSettings.Networks["bridge"]
					if ep.IPAddress.String() != "172.17.0.9" || ep.MacAddress.String() != "02:42:01:02:03:04" || len(in.Container.NetworkSettings.Ports) != 6 {
						t.Errorf("%+v %v", ep, in.Container.NetworkSettings.Ports)
					}
				}
			}
			networks, err := c.NetworkList(ctx, client.NetworkListOptions{})
			if err != nil || len(networks.Items) != 3 {
				t.Fatalf("%v %v", networks, err)
			}
			n, err := c.NetworkInspect(ctx, "bridge", client.NetworkInspectOptions{})
			if err != nil || n.Network.Containers[shop.ID].IPv4Address.String() != "172.17.0.9/16" {
				t.Errorf("%+v %v", n.Network, err)
			}
			if _, err := c.Info(ctx, client.InfoOptions{}); err != nil {
				t.Error(err)
			}
			v, err := c.ServerVersion(ctx, client.ServerVersionOptions{})
			if err != nil || v.Version != "0.1.0" {
				t.Errorf("%v %v", v, err)
			}
			if _, err := c.DiskUsage(ctx, client.DiskUsageOptions{Images: true, Containers: true, Volumes: true, BuildCache: true}); err != nil {
				t.Error(err)
			}
			if _, err := c.ContainerTop(ctx, "shop", client.ContainerTopOptions{}); err != nil {
				t.Error(err)
			}
			if st, err := c.ContainerStatPath(ctx, "shop", client.ContainerStatPathOptions{Path: "/etc/hosts"}); err != nil || st.Stat.Name != "hosts" {
				t.Errorf("%v %v", st, err)
			}
			logs, err := c.ContainerLogs(ctx, "shop", client.ContainerLogsOptions{ShowStdout: true})
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(logs); !strings.Contains(string(b), "line") {
				t.Errorf("%q", b)
			}
			logs.Close()
		})
	}
}

// TestSDKRun: create, attach, wait, start as the SDK does them.
func TestSDKRun(t *testing.T) {
	f := newFakeContainers()
	c := sdk(t, serveUnix(t, New(testConfig(f, newFakeNetwork()))))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	made, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "one", Config: &apicontainer.Config{Image: "box"}})
	if err != nil {
		t.Fatal(err)
	}
	wait := c.ContainerWait(ctx, made.ID, client.ContainerWaitOptions{Condition: apicontainer.WaitConditionNextExit})
	attached, err := c.ContainerAttach(ctx, made.ID, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()
	if _, err := c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(attached.Reader); err != nil || !strings.Contains(string(b), "hello") {
		t.Errorf("%v %q", err, b)
	}
	select {
	case r := <-wait.Result:
		if r.StatusCode != 7 {
			t.Errorf("%+v", r)
		}
	case err := <-wait.Error:
		t.Error(err)
	}
	ev := c.Events(ctx, client.EventsListOptions{Since: "2020-01-01T00:00:00Z"})
	select {
	case e := <-ev.Messages:
		if e.Action != "start" || e.Actor.ID != made.ID {
			t.Errorf("%+v", e)
		}
	case err := <-ev.Err:
		t.Error(err)
	}
	f.bus.Publish(events.Event{Type: "container", Action: "destroy", ID: made.ID})
	if e := <-ev.Messages; e.Action != "destroy" {
		t.Errorf("%+v", e)
	}
}
