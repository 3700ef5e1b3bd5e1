{{/* The chart's name, which labels carry. */}}
{{- define "mattermost-calls-offloader.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What every object is called: the release's name, with the chart's in it. */}}
{{- define "mattermost-calls-offloader.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $made := contains $name .Release.Name | empty | not | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $made | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of an object of the release, made of a list: root, suffix. */}}
{{- define "mattermost-calls-offloader.object" -}}
{{- $suffix := last . -}}
{{- printf "%s-%s" (include "mattermost-calls-offloader.fullname" (first .) | trunc (sub 62 (len $suffix) | int) | trimSuffix "-") $suffix -}}
{{- end -}}

{{/* By these a Deployment finds its pods for ever: they cannot be changed in an upgrade. */}}
{{- define "mattermost-calls-offloader.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mattermost-calls-offloader.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mattermost-calls-offloader.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "mattermost-calls-offloader.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Which jobs are this installation's. */}}
{{- define "mattermost-calls-offloader.instance" -}}
{{- $own := get (include "mattermost-calls-offloader.configured" . | fromYaml) "JOBS_KUBERNETES_INSTANCE" -}}
{{- $own | default .Values.jobs.instance | default (include "mattermost-calls-offloader.fullname" .) -}}
{{- end -}}

{{/* The labels that every job of the service carries, and its pods. */}}
{{- define "mattermost-calls-offloader.jobLabels" -}}
app: mattermost-calls-offloader
calls-offloader.instance: {{ include "mattermost-calls-offloader.instance" . }}
{{- end -}}

{{- define "mattermost-calls-offloader.serviceAccountName" -}}
{{- $own := .Values.serviceAccount.create | empty | not | ternary (include "mattermost-calls-offloader.fullname" .) "default" -}}
{{- .Values.serviceAccount.name | default $own -}}
{{- end -}}

{{/* An image's full name, of a list: root, its values. A repository that names a registry keeps it. */}}
{{- define "mattermost-calls-offloader.image" -}}
{{- $root := first . -}}
{{- $image := last . -}}
{{- $registry := $root.Values.global.imageRegistry | trimSuffix "/" -}}
{{- $host := $image.repository | splitList "/" | first -}}
{{- if and $registry (not (and (contains "/" $image.repository) (or (contains "." $host) (contains ":" $host)))) -}}
{{- $registry }}/
{{- end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* The values under the names of the variables that an admin set in `config`, as YAML. */}}
{{- define "mattermost-calls-offloader.configured" -}}
{{- $names := dict -}}
{{- range .Values.config }}{{ $_ := set $names .name (.value | default "" | toString) }}{{ end -}}
{{- toYaml $names -}}
{{- end -}}

{{/* "true" when several replicas could share the store. */}}
{{- define "mattermost-calls-offloader.sharedStore" -}}
{{- $own := "" -}}
{{- range .Values.config -}}
{{- if eq .name "STORE_DATASOURCE" }}{{ $own = or .valueFrom (contains "://" (.value | default "")) | empty | not | ternary "yes" "no" }}{{ end -}}
{{- end -}}
{{- if eq $own "" }}{{ $own = or .Values.database.url .Values.database.existingSecret | empty | not | ternary "yes" "no" }}{{ end -}}
{{- if eq $own "yes" }}true{{ end -}}
{{- end -}}

{{/* The claim on which jobs keep their files, if there is one. */}}
{{- define "mattermost-calls-offloader.jobsClaim" -}}
{{- $own := get (include "mattermost-calls-offloader.configured" . | fromYaml) "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME" -}}
{{- if $own }}{{ $own }}
{{- else if .Values.volumeConfig.usePVC }}{{ .Values.persistentVolume.claimName }}
{{- else if .Values.volumeConfig.useEFS }}{{ .Values.efsVolume.claimName }}
{{- else if .Values.volumeConfig.useNFS }}{{ .Values.nfsVolume.claimName }}
{{- end -}}
{{- end -}}

{{/* Where that claim is in the service's pod: a mount, as YAML; empty without one. */}}
{{- define "mattermost-calls-offloader.jobsMount" -}}
{{- $volume := dict -}}
{{- if .Values.volumeConfig.usePVC }}{{ $volume = .Values.persistentVolume }}{{ end -}}
{{- if .Values.volumeConfig.useEFS }}{{ $volume = .Values.efsVolume }}{{ end -}}
{{- if .Values.volumeConfig.useNFS }}{{ $volume = .Values.nfsVolume }}{{ end -}}
{{- with $volume -}}
name: {{ .name }}
mountPath: {{ .mountPath }}
claimName: {{ .claimName }}
{{- end -}}
{{- end -}}

{{/* "true" when the pod needs a claim for SQLite. */}}
{{- define "mattermost-calls-offloader.stateClaim" -}}
{{- if and .Values.persistence.enabled (not (include "mattermost-calls-offloader.sharedStore" .)) -}}
{{- .Values.persistence.existingClaim | default (include "mattermost-calls-offloader.object" (list . "state")) -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the key of the stored tokens; empty: beside the database. */}}
{{- define "mattermost-calls-offloader.keySecret" -}}
{{- if .Values.secretKey.existingSecret -}}
{{- .Values.secretKey.existingSecret -}}
{{- else if and (or (include "mattermost-calls-offloader.sharedStore" .) (include "mattermost-calls-offloader.onWorkers" .)) (not (hasKey (include "mattermost-calls-offloader.configured" . | fromYaml) "OFFLOADER_SECRET_KEY")) -}}
{{- include "mattermost-calls-offloader.object" (list . "key") -}}
{{- end -}}
{{- end -}}

{{- define "mattermost-calls-offloader.databaseSecret" -}}
{{- .Values.database.existingSecret | default (include "mattermost-calls-offloader.object" (list . "database")) -}}
{{- end -}}

{{/* The peers' scheme: HTTP, or HTTPS when the service has a certificate. */}}
{{- define "mattermost-calls-offloader.scheme" -}}
{{- $own := get (include "mattermost-calls-offloader.configured" . | fromYaml) "API_HTTP_TLS_ENABLE" -}}
{{- or .Values.tls.existingSecret (has (lower $own) (list "1" "t" "true")) | empty | not | ternary "HTTPS" "HTTP" -}}
{{- end -}}

{{/* The spec of a claim, of a list: root, its name, what it should be, its size. Of a claim that exists nothing but
the size can be changed: it keeps the rest, so that an upgrade is not refused. */}}
{{- define "mattermost-calls-offloader.claimSpec" -}}
{{- $there := lookup "v1" "PersistentVolumeClaim" (first .).Release.Namespace (index . 1) | default dict -}}
{{- $wanted := index . 2 -}}
{{- if $there }}{{ $wanted = pick $there.spec "accessModes" "storageClassName" "volumeName" }}{{ end -}}
{{- range $key, $value := $wanted }}
{{- if not (kindIs "invalid" $value) }}
{{ dict $key $value | toYaml }}
{{- end }}
{{- end }}
resources:
  requests:
    storage: {{ last . }}
{{- end -}}
