package kube

import "time"

// The parts of Kubernetes' objects that the tests look at.

// Metadata is of any object.
type Metadata struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               string            `json:"uid"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	CreationTimestamp time.Time         `json:"creationTimestamp"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
}

// Variable is of a container's environment.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Container is what a pod asks for.
type Container struct {
	Name          string     `json:"name"`
	Image         string     `json:"image"`
	Env           []Variable `json:"env"`
	RestartPolicy string     `json:"restartPolicy"`
}

// Value is of an environment variable; "" when it is not set.
func (c *Container) Value(name string) string {
	for _, variable := range c.Env {
		if variable.Name == name {
			return variable.Value
		}
	}
	return ""
}

// ContainerStatus is what became of it.
type ContainerStatus struct {
	Name         string `json:"name"`
	Ready        bool   `json:"ready"`
	RestartCount int    `json:"restartCount"`
	State        struct {
		Running *struct {
			StartedAt time.Time `json:"startedAt"`
		} `json:"running"`
	} `json:"state"`
}

// Condition is of any object.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Pod is a pod.
type Pod struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		NodeName       string      `json:"nodeName"`
		InitContainers []Container `json:"initContainers"`
		Containers     []Container `json:"containers"`
		Affinity       struct {
			PodAntiAffinity *struct {
				Preferred []struct {
					Weight int `json:"weight"`
					Term   struct {
						TopologyKey   string `json:"topologyKey"`
						LabelSelector struct {
							MatchLabels map[string]string `json:"matchLabels"`
						} `json:"labelSelector"`
					} `json:"podAffinityTerm"`
				} `json:"preferredDuringSchedulingIgnoredDuringExecution"`
			} `json:"podAntiAffinity"`
		} `json:"affinity"`
		Spread []struct {
			TopologyKey string `json:"topologyKey"`
		} `json:"topologySpreadConstraints"`
	} `json:"spec"`
	Status struct {
		Phase                 string            `json:"phase"`
		PodIP                 string            `json:"podIP"`
		Conditions            []Condition       `json:"conditions"`
		InitContainerStatuses []ContainerStatus `json:"initContainerStatuses"`
		ContainerStatuses     []ContainerStatus `json:"containerStatuses"`
	} `json:"status"`
}

// Ready says whether the pod may be sent requests, and is not on its way out.
func (p *Pod) Ready() bool {
	if p.Metadata.DeletionTimestamp != nil {
		return false
	}
	for _, condition := range p.Status.Conditions {
		if condition.Type == "Ready" {
			return condition.Status == "True"
		}
	}
	return false
}

// AppStarted is how long after the pod was created its first container ran, to the second; 0 while it doesn't.
func (p *Pod) AppStarted() time.Duration {
	for _, status := range p.Status.ContainerStatuses {
		if status.State.Running != nil {
			return status.State.Running.StartedAt.Sub(p.Metadata.CreationTimestamp)
		}
	}
	return 0
}

// Sidecar is the injected container, or nil.
func (p *Pod) Sidecar() *Container {
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == "sidegrid" {
			return &p.Spec.InitContainers[i]
		}
	}
	return nil
}

// SidecarStatus is what became of the injected container; the zero value when nothing yet.
func (p *Pod) SidecarStatus() ContainerStatus {
	for _, status := range p.Status.InitContainerStatuses {
		if status.Name == "sidegrid" {
			return status
		}
	}
	return ContainerStatus{}
}

// Node is a node.
type Node struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		Unschedulable bool `json:"unschedulable"`
	} `json:"spec"`
	Status struct {
		Conditions []Condition `json:"conditions"`
	} `json:"status"`
}

// List is a list of objects.
type List[T any] struct {
	Items []T `json:"items"`
}

// CacheCluster is one, as far as its status goes.
type CacheCluster struct {
	Metadata Metadata `json:"metadata"`
	Status   struct {
		View    uint64 `json:"view"`
		Ready   string `json:"ready"`
		Members []struct {
			Name    string `json:"name"`
			Node    string `json:"node"`
			Rack    string `json:"rack"`
			Machine string `json:"machine"`
			State   string `json:"state"`
		} `json:"members"`
		Segments struct {
			Total           int `json:"total"`
			UnderReplicated int `json:"underReplicated"`
		} `json:"segments"`
		LastLoss *struct {
			View     uint64 `json:"view"`
			Segments int    `json:"segments"`
			Seen     string `json:"seen"`
		} `json:"lastLoss"`
		Caches []struct {
			Name     string `json:"name"`
			Survives struct {
				Pod, Node, Zone bool
			} `json:"survives"`
		} `json:"caches"`
		Conditions []Condition `json:"conditions"`
	} `json:"status"`
}

// Is gives the status of a condition: `True`, `False`, `Unknown`, or "" when it is not there.
func (c *CacheCluster) Is(condition string) string {
	for _, one := range c.Status.Conditions {
		if one.Type == condition {
			return one.Status
		}
	}
	return ""
}
