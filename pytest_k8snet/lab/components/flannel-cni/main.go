// Command flannel is the CNI plugin that flannel's own configuration names: it makes of what flanneld has written into
// /run/flannel/subnet.env the configuration of another plugin (bridge, unless the configuration says otherwise), and runs that.
// It does what github.com/flannel-io/cni-plugin does on Linux: the same keys, the same defaults, the same files.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	defaultSubnetFile = "/run/flannel/subnet.env"
	defaultDataDir    = "/var/lib/cni/flannel"
)

type values = map[string]any

type configuration struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	SubnetFile string `json:"subnetFile"`
	DataDir    string `json:"dataDir"`
	Delegate   values `json:"delegate"`
}

func main() {
	if err := run(); err != nil {
		// The error that the CNI specification wants on stdout; 999 is the code of plugins that have no better one.
		_ = json.NewEncoder(os.Stdout).Encode(values{"cniVersion": "1.0.0", "code": 999, "msg": err.Error()})
		os.Exit(1)
	}
}

func run() error {
	if os.Getenv("CNI_COMMAND") == "VERSION" {
		return json.NewEncoder(os.Stdout).Encode(values{"cniVersion": "1.0.0", "supportedVersions": []string{"0.3.1", "0.4.0", "1.0.0"}})
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	conf := configuration{SubnetFile: defaultSubnetFile, DataDir: defaultDataDir}
	if err := json.Unmarshal(text, &conf); err != nil {
		return fmt.Errorf("flannel's CNI configuration: %w", err)
	}
	kept := filepath.Join(conf.DataDir, os.Getenv("CNI_CONTAINERID"))
	switch command := os.Getenv("CNI_COMMAND"); command {
	case "ADD":
		delegate, err := delegateOf(conf)
		if err != nil {
			return err
		}
		made, err := json.Marshal(delegate)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(conf.DataDir, 0o700); err != nil {
			return err
		}
		// DEL has to undo what ADD did, whatever flanneld says by then.
		if err := os.WriteFile(kept, made, 0o600); err != nil {
			return err
		}
		return call(made)
	case "DEL", "CHECK":
		made, err := os.ReadFile(kept)
		if errors.Is(err, os.ErrNotExist) && command == "DEL" {
			return nil
		}
		if err != nil {
			return err
		}
		if err := call(made); err != nil || command == "CHECK" {
			return err
		}
		return os.Remove(kept)
	case "STATUS":
		_, err := readSubnet(conf.SubnetFile)
		return err
	case "GC":
		return nil
	default:
		return fmt.Errorf("CNI_COMMAND is %q", command)
	}
}

// delegateOf gives the configuration of the plugin that makes the interface.
func delegateOf(conf configuration) (values, error) {
	subnet, err := readSubnet(conf.SubnetFile)
	if err != nil {
		return nil, err
	}
	delegate := values{}
	for key, value := range conf.Delegate {
		delegate[key] = value
	}
	set := func(key string, value any) {
		if _, given := delegate[key]; !given {
			delegate[key] = value
		}
	}
	set("type", "bridge")
	// Only one of the two masquerades.
	set("ipMasq", !subnet.masquerades)
	set("mtu", subnet.mtu)
	if delegate["type"] == "bridge" {
		set("isGateway", true)
	}
	delegate["name"] = conf.Name
	delegate["cniVersion"] = conf.CNIVersion
	delegate["ipam"] = values{
		"type":   "host-local",
		"ranges": [][]values{{{"subnet": subnet.subnet}}},
		"routes": []values{{"dst": subnet.network}},
	}
	return delegate, nil
}

type subnet struct {
	network, subnet string
	mtu             int
	masquerades     bool
}

// readSubnet gives what flanneld has written: it is there as soon as the node has its range.
func readSubnet(path string) (*subnet, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("flanneld has not written its subnet yet: %w", err)
	}
	defer file.Close()
	found := &subnet{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch key {
		case "FLANNEL_NETWORK":
			found.network = value
		case "FLANNEL_SUBNET":
			// It is the address of the bridge; host-local wants that of the range.
			_, subnet, err := net.ParseCIDR(value)
			if err != nil {
				return nil, fmt.Errorf("%s: FLANNEL_SUBNET: %w", path, err)
			}
			found.subnet = subnet.String()
		case "FLANNEL_MTU":
			if found.mtu, err = strconv.Atoi(value); err != nil {
				return nil, fmt.Errorf("%s: FLANNEL_MTU: %w", path, err)
			}
		case "FLANNEL_IPMASQ":
			found.masquerades = value == "true"
		}
	}
	if found.network == "" || found.subnet == "" || found.mtu == 0 {
		return nil, fmt.Errorf("%s: no FLANNEL_NETWORK, FLANNEL_SUBNET or FLANNEL_MTU", path)
	}
	return found, lines.Err()
}

// call runs the other plugin in this one's place: its output and its exit status are ours.
func call(made []byte) error {
	var delegate struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(made, &delegate); err != nil {
		return err
	}
	for _, folder := range filepath.SplitList(os.Getenv("CNI_PATH")) {
		program := filepath.Join(folder, delegate.Type)
		if info, err := os.Stat(program); err != nil || info.IsDir() {
			continue
		}
		command := exec.Command(program)
		command.Stdin = strings.NewReader(string(made))
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		err := command.Run()
		var exited *exec.ExitError
		if errors.As(err, &exited) {
			os.Exit(exited.ExitCode())
		}
		return err
	}
	return fmt.Errorf("no plugin %q in CNI_PATH %s", delegate.Type, os.Getenv("CNI_PATH"))
}
