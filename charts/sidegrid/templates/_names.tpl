{{/* Labels that select the operator's pods. */}}
{{- define "sidegrid.selector" -}}
app.kubernetes.io/name: sidegrid
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of every object. */}}
{{- define "sidegrid.labels" -}}
{{ include "sidegrid.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}
