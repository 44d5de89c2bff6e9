import KokoroBundle

/// A choice of compute units for all packages of a bundle.
public enum UnitChoice: Sendable, Equatable {
    /// As each package asks.
    case bundle
    /// One for all packages but those that ask for the processor, which stay there: their values
    /// do not survive another device.
    case units(Manifest.ComputeUnits)

    /// Names of all choices; `bundle` is the first.
    static let names = ["bundle"] + Manifest.ComputeUnits.allCases.map(\.rawValue)

    /// The choice of a name out of `names`, nil for another.
    init?(name: String) {
        if name == "bundle" {
            self = .bundle
        } else if let units = Manifest.ComputeUnits(rawValue: name) {
            self = .units(units)
        } else {
            return nil
        }
    }

    /// As it is typed and reported.
    var name: String {
        switch self {
        case .bundle: return "bundle"
        case .units(let units): return units.rawValue
        }
    }

    /// Processors that a bundle's packages ask for by name.
    func devices(for manifest: Manifest) -> [String] {
        let asked = manifest.packages.map { units(for: $0) }
        return (asked.contains(.cpuAndGPU) ? ["GPU"] : [])
            + (asked.contains(.cpuAndNeuralEngine) ? ["NeuralEngine"] : [])
    }

    /// What a package may run on.
    func units(for package: Manifest.Package) -> Manifest.ComputeUnits {
        switch self {
        case .bundle: return package.computeUnits
        case .units(let units): return package.computeUnits == .cpuOnly ? .cpuOnly : units
        }
    }
}
