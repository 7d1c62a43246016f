package remotetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Dropbox is the part of Dropbox's API that keeps files. It holds them in memory.
type Dropbox struct {
	// Busy is how many requests it still answers with 429, and how long it then asks for.
	Busy     int
	BusyFor  time.Duration
	Quota    int64 // bytes in all; 0 is no bound
	Requests map[string]int

	mu      sync.Mutex
	files   map[string]dropboxFile // by path in lower case
	folders map[string]bool
	version int
	changed chan struct{} // closed at the next change
}

type dropboxFile struct {
	path    string
	content []byte
	at      time.Time
	version int
}

// NewDropbox returns one without files.
func NewDropbox() *Dropbox {
	return &Dropbox{files: map[string]dropboxFile{}, folders: map[string]bool{}, changed: make(chan struct{}), Requests: map[string]int{}}
}

// Put puts a file as another device would.
func (d *Dropbox) Put(path, content string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(path, []byte(content))
}

func (d *Dropbox) put(path string, content []byte) dropboxFile {
	d.version++
	f := dropboxFile{path: path, content: content, at: time.Now().UTC().Truncate(time.Second), version: d.version}
	d.files[strings.ToLower(path)] = f
	for dir := path; ; {
		dir = dir[:strings.LastIndexByte(dir, '/')]
		if dir == "" {
			break
		}
		d.folders[strings.ToLower(dir)] = true
	}
	close(d.changed)
	d.changed = make(chan struct{})
	return f
}

func (f dropboxFile) meta() map[string]any {
	at := f.at.Format(time.RFC3339)
	return map[string]any{
		".tag": "file", "name": f.path[strings.LastIndexByte(f.path, '/')+1:], "id": "id:" + f.path, "path_lower": strings.ToLower(f.path), "path_display": f.path,
		"rev": fmt.Sprintf("%09x", f.version), "size": len(f.content), "client_modified": at, "server_modified": at, "is_downloadable": true, "content_hash": strings.Repeat("0", 64),
	}
}

// A dropboxArg has the arguments of all calls.
type dropboxArg struct {
	Path   string `json:"path"`
	Cursor string `json:"cursor"`
}

// ServeHTTP answers a call.
func (d *Dropbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := strings.TrimPrefix(r.URL.Path, "/2/")
	var arg dropboxArg
	var body []byte
	if header := r.Header.Get("Dropbox-API-Arg"); header != "" {
		_ = json.Unmarshal([]byte(header), &arg)
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return // it broke off: nothing is stored
		}
	} else {
		_ = json.NewDecoder(r.Body).Decode(&arg)
	}
	d.mu.Lock()
	d.Requests[call]++
	busy := d.Busy > 0
	if busy {
		d.Busy--
	}
	d.mu.Unlock()
	if busy {
		w.Header().Set("Retry-After", strconv.Itoa(int(d.BusyFor.Seconds())))
		writeJSON(w, http.StatusTooManyRequests, map[string]any{
			"error_summary": "too_many_requests/..", "error": map[string]any{"reason": map[string]string{".tag": "too_many_requests"}, "retry_after": int(d.BusyFor.Seconds())}})
		return
	}
	if call == "files/list_folder/longpoll" {
		d.longpoll(w, r, arg)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serve(w, r, call, arg, body)
}

func (d *Dropbox) serve(w http.ResponseWriter, r *http.Request, call string, arg dropboxArg, body []byte) {
	arg.Path = strings.TrimPrefix(arg.Path, "id:")
	file, there := d.files[strings.ToLower(arg.Path)]
	switch call {
	case "files/upload":
		used := int64(len(body))
		for _, f := range d.files {
			used += int64(len(f.content))
		}
		if d.Quota > 0 && used > d.Quota {
			conflict(w, "path", "insufficient_space")
			return
		}
		writeJSON(w, http.StatusOK, d.put(arg.Path, body).meta())
	case "files/download":
		if !there {
			conflict(w, "path", "not_found")
			return
		}
		meta, _ := json.Marshal(file.meta())
		w.Header().Set("Dropbox-API-Result", string(meta))
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(file.content)))
	case "files/get_metadata":
		if d.folders[strings.ToLower(arg.Path)] {
			writeJSON(w, http.StatusOK, d.folder(arg.Path))
			return
		}
		if !there {
			conflict(w, "path", "not_found")
			return
		}
		writeJSON(w, http.StatusOK, file.meta())
	case "files/delete_v2":
		if !there {
			conflict(w, "path_lookup", "not_found")
			return
		}
		delete(d.files, strings.ToLower(arg.Path))
		writeJSON(w, http.StatusOK, map[string]any{"metadata": file.meta()})
	case "files/create_folder_v2":
		d.folders[strings.ToLower(arg.Path)] = true
		writeJSON(w, http.StatusOK, map[string]any{"metadata": d.folder(arg.Path)})
	case "files/list_folder":
		d.list(w, arg.Path, 0)
	case "files/list_folder/get_latest_cursor":
		writeJSON(w, http.StatusOK, map[string]string{"cursor": strconv.Itoa(d.version) + " " + arg.Path})
	case "files/list_folder/continue":
		since, path, _ := strings.Cut(arg.Cursor, " ")
		n, _ := strconv.Atoi(since)
		d.list(w, path, n)
	case "users/get_space_usage":
		writeJSON(w, http.StatusOK, map[string]any{"used": 1000, "allocation": map[string]any{".tag": "individual", "allocated": 10_000_000}})
	default:
		http.Error(w, "no such call: "+call, http.StatusBadRequest)
	}
}

func (d *Dropbox) folder(path string) map[string]any {
	return map[string]any{".tag": "folder", "name": path[strings.LastIndexByte(path, '/')+1:], "id": "id:" + path, "path_lower": strings.ToLower(path), "path_display": path}
}

// list lists what is right in a folder, or, since a version, all that changed below it.
func (d *Dropbox) list(w http.ResponseWriter, path string, since int) {
	prefix := strings.ToLower(path) + "/"
	if since == 0 && path != "" && !d.folders[strings.ToLower(path)] {
		conflict(w, "path", "not_found")
		return
	}
	entries := []map[string]any{}
	for key, f := range d.files {
		if rest, ok := strings.CutPrefix(key, prefix); ok && f.version > since && (since > 0 || !strings.Contains(rest, "/")) {
			entries = append(entries, f.meta())
		}
	}
	for dir := range d.folders {
		if rest, ok := strings.CutPrefix(dir, prefix); ok && since == 0 && !strings.Contains(rest, "/") {
			entries = append(entries, d.folder(dir))
		}
	}
	slices.SortFunc(entries, func(a, b map[string]any) int {
		return strings.Compare(a["path_lower"].(string), b["path_lower"].(string))
	})
	writeJSON(w, http.StatusOK, map[string]any{"entries": entries, "cursor": strconv.Itoa(d.version) + " " + path, "has_more": false})
}

// longpoll answers when something changes.
func (d *Dropbox) longpoll(w http.ResponseWriter, r *http.Request, arg dropboxArg) {
	since, _, _ := strings.Cut(arg.Cursor, " ")
	n, _ := strconv.Atoi(since)
	d.mu.Lock()
	changed, version := d.changed, d.version
	d.mu.Unlock()
	if version <= n {
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-time.After(30 * time.Second):
			writeJSON(w, http.StatusOK, map[string]any{"changes": false})
			return
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"changes": true})
}

// conflict is how Dropbox says no.
func conflict(w http.ResponseWriter, where, why string) {
	writeJSON(w, http.StatusConflict, map[string]any{
		"error_summary": where + "/" + why + "/..",
		"error":         map[string]any{".tag": where, where: map[string]any{".tag": why}, "reason": map[string]any{".tag": why}},
	})
}
