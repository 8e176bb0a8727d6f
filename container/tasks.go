package container

import (
	"context"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/protobuf"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"linkspan/keeper"
)

// exit is how a process ended.
type exit struct {
	code int
	at   time.Time
}

// createTask makes the container's init process, which waits to be started.
// The shim opens the keeper's FIFOs; no byte of them passes through here.
func (r *runtime) createTask(ctx context.Context, id string, tty bool, s keeper.Stream, rootfs []mount.Mount) (pid int, err error) {
	req := &tasks.CreateTaskRequest{ContainerID: id, Terminal: tty, Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr}
	for _, m := range rootfs {
		req.Rootfs = append(req.Rootfs, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	err = r.call(ctx, "task.create", slow, func(ctx context.Context) error {
		a, err := r.client.TaskService().Create(ctx, req)
		pid = int(a.GetPid())
		return err
	})
	return pid, err
}

// abandoned is how long containerd may take to clear away a task that it was
// making for a daemon that was killed meanwhile.
const abandoned = 20 * time.Second

// makeTask is createTask where an earlier life may have left a task, which is
// declared by nothing, or where containerd is yet at work on one for a daemon that
// was killed: it holds the folder until it has noticed.
func (r *runtime) makeTask(ctx context.Context, id string, tty bool, s keeper.Stream, rootfs []mount.Mount) error {
	for end := time.Now().Add(abandoned); ; {
		_, err := r.createTask(ctx, id, tty, s, rootfs)
		if !errdefs.IsAlreadyExists(err) && !beingMade(err, id) || time.Now().After(end) {
			return err
		}
		if err := r.killTask(ctx, id); err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// beingMade reads what containerd says when the task's folder is there and the
// task is not, or when it cleared the folder away under a new shim's feet. It is
// text alone.
func beingMade(err error, id string) bool {
	if err == nil {
		return false
	}
	s := err.Error()
	return strings.Contains(s, "/"+id+": "+syscall.EEXIST.Error()) || strings.Contains(s, "getwd: "+syscall.ENOENT.Error())
}

// startTask runs the process of a task, or of one of its execs.
func (r *runtime) startTask(ctx context.Context, id, exec string) (pid int, err error) {
	err = r.call(ctx, point("task", exec, "start"), slow, func(ctx context.Context) error {
		a, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id, ExecID: exec})
		pid = int(a.GetPid())
		return err
	})
	return pid, err
}

// point names the fail point of a call that tasks and execs share.
func point(kind, exec, what string) string {
	if exec != "" {
		kind = "exec"
	}
	return kind + "." + what
}

// wait returns when the process has ended; it may have ended before.
func (r *runtime) wait(ctx context.Context, id, exec string) (x exit, err error) {
	err = r.call(ctx, point("task", exec, "wait"), 0, func(ctx context.Context) error {
		a, err := r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: id, ExecID: exec})
		if err == nil {
			x = exit{code: int(a.ExitStatus), at: protobuf.FromTimestamp(a.ExitedAt)}
		}
		return err
	})
	return x, err
}

// deleteTask ends a task's shim. One that is gone is success.
func (r *runtime) deleteTask(ctx context.Context, id string) error {
	return absent(r.call(ctx, "task.delete", slow, func(ctx context.Context) error {
		_, err := r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
		return err
	}))
}

// killTask ends whatever is left of a task: the container was never declared
// to run, or is no longer.
func (r *runtime) killTask(ctx context.Context, id string) error {
	err := r.signal(ctx, id, "", syscall.SIGKILL, true)
	if errdefs.IsNotFound(err) {
		// No process: never started, or ended. The task itself may be there.
		return r.deleteTask(ctx, id)
	}
	if err != nil {
		return err
	}
	c, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	if _, err := r.wait(c, id, ""); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return r.deleteTask(ctx, id)
}

func (r *runtime) deleteExec(ctx context.Context, id, exec string) error {
	return absent(r.call(ctx, "exec.delete", quick, func(ctx context.Context) error {
		_, err := r.client.TaskService().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: exec})
		return err
	}))
}

func (r *runtime) signal(ctx context.Context, id, exec string, s syscall.Signal, all bool) error {
	return r.call(ctx, point("task", exec, "kill"), quick, func(ctx context.Context) error {
		_, err := r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, ExecID: exec, Signal: uint32(s), All: all})
		return err
	})
}

func (r *runtime) pause(ctx context.Context, id string) error {
	return r.call(ctx, "task.pause", quick, func(ctx context.Context) error {
		_, err := r.client.TaskService().Pause(ctx, &tasks.PauseTaskRequest{ContainerID: id})
		return err
	})
}

func (r *runtime) resume(ctx context.Context, id string) error {
	return r.call(ctx, "task.resume", quick, func(ctx context.Context) error {
		_, err := r.client.TaskService().Resume(ctx, &tasks.ResumeTaskRequest{ContainerID: id})
		return err
	})
}

func (r *runtime) resize(ctx context.Context, id, exec string, height, width uint) error {
	return r.call(ctx, point("task", exec, "resize"), quick, func(ctx context.Context) error {
		_, err := r.client.TaskService().ResizePty(ctx, &tasks.ResizePtyRequest{ContainerID: id, ExecID: exec, Height: uint32(height), Width: uint32(width)})
		return err
	})
}

// closeStdin makes the shim close its own end of the stdin FIFO, which it holds
// so that the process does not read EOF between two attachments.
func (r *runtime) closeStdin(ctx context.Context, id, exec string) error {
	return absent(r.call(ctx, point("task", exec, "closeio"), quick, func(ctx context.Context) error {
		_, err := r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: id, ExecID: exec, Stdin: true})
		return err
	}))
}

// pids are the host's ids of the container's processes.
func (r *runtime) pids(ctx context.Context, id string) (pids []int, err error) {
	err = r.call(ctx, "task.pids", quick, func(ctx context.Context) error {
		a, err := r.client.TaskService().ListPids(ctx, &tasks.ListPidsRequest{ContainerID: id})
		for _, p := range a.GetProcesses() {
			pids = append(pids, int(p.Pid))
		}
		return err
	})
	return pids, err
}

// execs are the ids of a task's execs whose processes run.
func (r *runtime) execs(ctx context.Context, id string) (ids []string, err error) {
	err = r.call(ctx, "task.execs", quick, func(ctx context.Context) error {
		a, err := r.client.TaskService().ListPids(ctx, &tasks.ListPidsRequest{ContainerID: id})
		for _, p := range a.GetProcesses() {
			if p.Info == nil {
				continue
			}
			// The runc shim names the exec that a process belongs to.
			var d options.ProcessDetails
			if err := typeurl.UnmarshalTo(p.Info, &d); err == nil && d.ExecID != "" {
				ids = append(ids, d.ExecID)
			}
		}
		return err
	})
	return ids, err
}

// createExec adds a process to a task, which waits to be started.
func (r *runtime) createExec(ctx context.Context, id, exec string, p *specs.Process, s keeper.Stream) error {
	a, err := typeurl.MarshalAnyToProto(p)
	if err != nil {
		return err
	}
	return r.call(ctx, "exec.create", slow, func(ctx context.Context) error {
		_, err := r.client.TaskService().Exec(ctx, &tasks.ExecProcessRequest{
			ContainerID: id, ExecID: exec, Terminal: p.Terminal, Spec: a,
			Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr,
		})
		return err
	})
}

// task is one task as containerd has it.
type task struct {
	id     string
	pid    int
	status tasktypes.Status
}

func (r *runtime) tasks(ctx context.Context) (map[string]task, error) {
	all := map[string]task{}
	err := r.call(ctx, "task.list", quick, func(ctx context.Context) error {
		a, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
		for _, p := range a.GetTasks() {
			all[p.ID] = task{id: p.ID, pid: int(p.Pid), status: p.Status}
		}
		return err
	})
	return all, err
}

// process looks at a task or an exec.
func (r *runtime) process(ctx context.Context, id, exec string) (t task, err error) {
	err = r.call(ctx, point("task", exec, "get"), quick, func(ctx context.Context) error {
		a, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id, ExecID: exec})
		if p := a.GetProcess(); p != nil {
			t = task{id: id, pid: int(p.Pid), status: p.Status}
		}
		return err
	})
	return t, err
}

// absent takes "not found" for success.
func absent(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
