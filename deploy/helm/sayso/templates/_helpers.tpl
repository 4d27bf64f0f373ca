{{- define "sayso.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "sayso.selector" -}}
app.kubernetes.io/name: {{ include "sayso.name" . }}
{{- end }}

{{- define "sayso.labels" -}}
{{ include "sayso.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "sayso.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s%s" .Chart.AppVersion (ternary "-cuda" "" .Values.cuda.enabled)) }}
{{- end }}

{{- define "sayso.healthProbe" -}}
{{- if .Values.tls.enabled -}}
exec:
  command: [sayso, health]
{{- else -}}
grpc:
  port: 50051
{{- end }}
{{- end }}
