{{/* What things are called: the release, unless it says it already. */}}
{{- define "flameup-gateway.name" -}}
{{- if contains "flameup-gateway" .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-flameup-gateway" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What tells our pods from others. */}}
{{- define "flameup-gateway.selector" -}}
app.kubernetes.io/name: flameup-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "flameup-gateway.labels" -}}
{{ include "flameup-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "flameup-gateway.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* gateway.toml. JSON's strings, numbers and lists are TOML's too. */}}
{{- define "flameup-gateway.config" -}}
[server]
listen = ["0.0.0.0:8080"]

[admin]
listen = "0.0.0.0:9090"
token_file = "/run/secrets/flameup-gateway/admin-token"

[workspaces.default]
api_key_file = "/run/secrets/flameup-gateway/flameup-api-key"
{{- range $name, $client := .Values.clients }}

[clients.{{ $name }}]
workspace = {{ $client.workspace | default "default" | toJson }}
{{- range $key, $value := omit $client "workspace" }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- with .Values.redis }}
{{- if .url }}

[redis]
url = {{ .url | toJson }}
{{- with .username }}
username = {{ . | toJson }}
{{- end }}
{{- with .passwordKey }}
password_file = {{ printf "/run/secrets/flameup-gateway/%s" . | toJson }}
{{- end }}
{{- with .caKey }}
ca_file = {{ printf "/run/secrets/flameup-gateway/%s" . | toJson }}
{{- end }}
encryption_key_file = [
{{- range .encryptionKeys }}
  {{ printf "/run/secrets/flameup-gateway/%s" . | toJson }},
{{- end }}
]
{{- with .namesKey }}
names_key_file = {{ printf "/run/secrets/flameup-gateway/%s" . | toJson }}
{{- end }}
replicas = {{ max 1 (ternary $.Values.autoscaling.maxReplicas $.Values.replicas $.Values.autoscaling.enabled) }}
{{- end }}
{{- end }}
{{- with .Values.config }}

{{ . | trim }}
{{- end }}
{{- end -}}
