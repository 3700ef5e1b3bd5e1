{{/* Combinations that would install and not work, refused by name. */}}
{{- define "mattermost-rtcd.checks" -}}
{{- $type := .Values.service.type -}}
{{- $several := include "mattermost-rtcd.several" . -}}
{{- $pods := eq .Values.deploymentType "daemonset" | ternary "deploymentType = daemonset" (printf "configuration.replicas = %d" (int .Values.configuration.replicas)) -}}
{{- if and $several (eq $type "LoadBalancer") -}}
{{- fail (printf "service.type = LoadBalancer with %s: all participants of a call have to reach the same pod, and a load balancer spreads them: deploymentType deployment and configuration.replicas 1, or networking.hostNetwork with service.type ClusterIP" $pods) -}}
{{- end -}}
{{- if and (not .Values.networking.hostNetwork) (eq $type "ClusterIP") -}}
{{- fail "networking.hostNetwork is off and service.type is ClusterIP: nobody outside the cluster could send media: set service.type to LoadBalancer or NodePort" -}}
{{- end -}}
{{- if eq $type "NodePort" -}}
{{- if not .Values.service.RTCnodePort -}}
{{- fail "service.type = NodePort needs service.RTCnodePort (30000-32767, as the cluster allows): participants are told that port" -}}
{{- end -}}
{{- if and $several .Values.service.exposeAPI -}}
{{- fail (printf "service.type = NodePort with %s: set service.exposeAPI to false, so that the plugin sees every pod by DNS" $pods) -}}
{{- end -}}
{{- if and $several (ne .Values.service.externalTrafficPolicy "Local") -}}
{{- fail (printf "service.type = NodePort with %s: service.externalTrafficPolicy has to be Local: a node's media port is that of its own pod" $pods) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.deploymentType "daemonset") (eq .Values.configuration.updateStrategy "Recreate") -}}
{{- fail "configuration.updateStrategy = Recreate: a DaemonSet knows RollingUpdate and OnDelete" -}}
{{- end -}}
{{- if and (eq .Values.deploymentType "deployment") (eq .Values.configuration.updateStrategy "OnDelete") -}}
{{- fail "configuration.updateStrategy = OnDelete: a Deployment knows RollingUpdate and Recreate" -}}
{{- end -}}
{{- if eq (regexReplaceAll "^(docker.io|index.docker.io)/" .Values.image.repository "") "mattermost/rtcd" -}}
{{- fail (printf "image.repository = %s is the image that this chart replaces: remove it and image.tag from your values, or name your copy of calls-native-offloader/calls-sfu" .Values.image.repository) -}}
{{- end -}}
{{- if regexMatch "^v?0\\.[0-9]+\\.[0-9]+" .Values.image.tag -}}
{{- fail (printf "image.tag = %s is a release of the service that this chart replaces: remove it from your values (this chart: %s)" .Values.image.tag .Chart.AppVersion) -}}
{{- end -}}
{{- if and .Values.service.monitorPort (has (int .Values.service.monitorPort) (list (int .Values.service.APIport) (int .Values.service.RTCport))) -}}
{{- fail (printf "service.monitorPort = %d is another port of this chart as well: give monitors one of their own" (int .Values.service.monitorPort)) -}}
{{- end -}}
{{- $names := keys .Values.configuration.environmentVariables -}}
{{- range .Values.configuration.env -}}
{{- if has .name $names }}{{ fail (printf "configuration: %s is set twice" .name) }}{{ end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.host or ingress.hosts" -}}
{{- end -}}
{{- end -}}
