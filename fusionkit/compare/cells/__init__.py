"""One cell of a comparison, and who trains cells: processes, clusters, ensembles."""
